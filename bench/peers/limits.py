"""Measures what bounds any engine on this machine's GPU, and prints samples as JSON: rates of copies, of matrix
products and of memory; with --shapes the vendor libraries' times for the shapes on which Stable Diffusion spends most.

    python bench/peers/limits.py --models $EURYALE_MODELS --families sd15 sdxl
"""

import argparse
import collections
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel

import device as devices
import record


CALLS = 20  # of one shape, timed together
SHAPES = "The largest shapes, and {}"  # a case


class Limits:
    def __init__(self, args, device):
        self.args, self.device, self.samples, self.failures = args, device, [], []
        self.megabytes, self.side = (1, 128) if args.small else (512, 8192)

    def add(self, case, quantity, round, seconds, work, unit):
        self.samples.append({"case": case, "engine": "", "quantity": quantity, "unit": "s", "round": round,
                             "value": seconds, "work": work, "work_unit": unit})

    def attempt(self, case, f):
        """A limit that cannot be measured is told, and the others go on."""
        try:
            f(case)
        except (RuntimeError, ValueError) as e:
            self.failures.append({"case": case, "engine": f.__name__, "error": str(e).splitlines()[0][:300]})

    def product(self):
        a, b = (torch.randn(self.side, self.side, device=self.device.name, dtype=self.device.dtype) for _ in range(2))
        c = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=c)

    def rates(self, case):
        product = self.product()
        product()
        for round in range(self.args.rounds):
            self.add(case, f"product of {self.side} x {self.side} matrices", round, self.device.span(product, after=product), 2 * self.side**3, "FLOP")
        a = torch.zeros(self.megabytes << 20, dtype=torch.uint8, device=self.device.name)
        b = torch.empty_like(a)
        b.copy_(a)
        for round in range(self.args.rounds):
            # A copy reads and writes each byte.
            self.add(case, "memory of the device", round, self.device.span(lambda: b.copy_(a), after=product), 2 * a.numel(), "B")

    def copies(self, case):
        product = self.product()
        product()
        size = self.megabytes << 20
        there = torch.zeros(size, dtype=torch.uint8, device=self.device.name)
        stream = self.device.stream()
        for kind, here in [("page-locked", self.device.pinned(size)), ("pageable", torch.empty(size, dtype=torch.uint8))]:
            here.fill_(1)
            for way, copy in [("to", lambda: there.copy_(here, non_blocking=True)), ("from", lambda: here.copy_(there, non_blocking=True))]:
                copy()
                name = f"copy {way} the device, {kind}"
                alone = []
                for round in range(self.args.rounds):
                    self.device.now()
                    alone.append(self.device.span(copy, stream))
                    self.add(case, f"{name}, alone", round, alone[-1], size, "B")
                # As many products as last longer than the copy.
                products = math.ceil(2 * max(alone) / self.device.span(product)) + 1
                for round in range(self.args.rounds):
                    self.device.now()
                    for _ in range(products):
                        product()
                    self.add(case, f"{name}, while computing", round, self.device.span(copy, stream), size, "B")
        self.device.now()

    def vendor(self, case, shapes):
        """The vendor's libraries on the shapes that largest found, for one round."""
        product = self.product()
        if self.device.name == "cuda" and hasattr(torch.backends.cuda, "preferred_blas_library"):
            torch.backends.cuda.preferred_blas_library("cublaslt")
        for described in shapes:
            shape = Linear(*described["fields"]) if described["linear"] else Conv(*described["fields"])
            f = call(shape, self.device)
            f()
            seconds = self.device.span(lambda: [f() for _ in range(CALLS)], after=product)
            self.add(case.format("cuBLASLt" if described["linear"] else "cuDNN"), described["quantity"], self.args.round, seconds / CALLS, shape.flops(), "FLOP")
            self.samples[-1]["engine"] = "cuBLASLt" if described["linear"] else "cuDNN"


class Linear(collections.namedtuple("Linear", "rows inputs outputs")):
    def flops(self):
        return 2 * self.rows * self.inputs * self.outputs

    def __str__(self):
        return f"{self.rows} rows, {self.inputs} to {self.outputs}"

    def arguments(self):
        """Shapes of what ops.Linear takes."""
        return [(self.rows, self.inputs), (self.outputs, self.inputs), (self.outputs,)]


class Conv(collections.namedtuple("Conv", "batch height width inputs outputs kernel stride padding")):
    def side(self, n):
        return (n + 2 * self.padding - self.kernel) // self.stride + 1

    def flops(self):
        return 2 * self.batch * self.side(self.height) * self.side(self.width) * self.inputs * self.outputs * self.kernel**2

    def __str__(self):
        return (f"{self.batch} x {self.height} x {self.width}, {self.inputs} to {self.outputs} channels, "
                f"kernel {self.kernel}, stride {self.stride}")

    def arguments(self):
        """Shapes of what ops.Conv takes."""
        return [(self.batch, self.height, self.width, self.inputs), (self.outputs, self.inputs, self.kernel, self.kernel), (self.outputs,)]


def call(shape, device):
    def randn(*dims):
        return torch.randn(dims, device=device.name, dtype=device.dtype)

    if isinstance(shape, Linear):
        x, w, b = randn(shape.rows, shape.inputs), randn(shape.outputs, shape.inputs), randn(shape.outputs)
        return lambda: F.linear(x, w, b)
    x = randn(shape.batch, shape.inputs, shape.height, shape.width).to(memory_format=torch.channels_last)
    w = randn(shape.outputs, shape.inputs, shape.kernel, shape.kernel).to(memory_format=torch.channels_last)
    b = randn(shape.outputs)
    return lambda: F.conv2d(x, w, b, shape.stride, shape.padding)


def described(models, families, suffix, n):
    """The n matrix products and the n convolutions of 3x3 on which most arithmetic is spent, for the benchmarks of both
    sides: ops.BenchmarkDevice reads name, linear, in, stride and padding."""
    found = largest(models, families, suffix)
    chosen = [f for f in found if isinstance(f[0], Linear)][:n] + [f for f in found if isinstance(f[0], Conv) and f[0].kernel == 3][:n]
    return [{"name": f"shape-{i}", "quantity": f"{shape}, {calls} in {where}", "linear": isinstance(shape, Linear), "fields": list(shape),
             "in": [" ".join(map(str, dims)) for dims in shape.arguments()], "flops": shape.flops(),
             "stride": getattr(shape, "stride", 0), "padding": getattr(shape, "padding", 0)} for i, (shape, calls, where) in enumerate(chosen)]


def largest(models, families, suffix):
    """Shapes, most arithmetic first over all their calls in one UNet step with guidance or one decode."""
    found = []
    for family in families:
        for part, count in [("UNet step", unet_shapes(models / (family + suffix))), ("VAE decode", vae_shapes(models / (family + suffix)))]:
            found += [(shape, calls, f"a {part} of {family}") for shape, calls in count.items()]
    return sorted(found, key=lambda f: -f[0].flops() * f[1])


def unet_shapes(model):
    config = UNet2DConditionModel.load_config(model / "unet")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        more = {}
        if unet.config.addition_embed_type == "text_time":
            pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            more = {"added_cond_kwargs": {"text_embeds": torch.empty(2, pooled), "time_ids": torch.empty(2, 6)}}
        side = unet.config.sample_size
        return counted(unet, lambda: unet(torch.empty(2, 4, side, side), torch.tensor(500),
                                          torch.empty(2, 77, unet.config.cross_attention_dim), **more))


def vae_shapes(model):
    config = AutoencoderKL.load_config(model / "vae")
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(config)
        side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
        return counted(vae, lambda: vae.decode(torch.empty(1, 4, side, side)))


def counted(module, run):
    """How often each shape is called in run; on the meta device, nothing is computed."""
    count = collections.Counter()

    def hook(m, inputs, output):
        x = inputs[0]
        if isinstance(m, torch.nn.Linear):
            count[Linear(x.numel() // x.shape[-1], m.in_features, m.out_features)] += 1
        else:
            count[Conv(x.shape[0], x.shape[2], x.shape[3], m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0])] += 1

    for m in module.modules():
        if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)):
            m.register_forward_hook(hook)
    run()
    return count


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--families", nargs="*", default=["sd15", "sdxl"])
    p.add_argument("--suffix", default="", help="of the folders' names")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--small", action="store_true", help="sizes for a trial")
    p.add_argument("--write-shapes", type=pathlib.Path, help="write the largest shapes to a file, and measure nothing")
    p.add_argument("--shapes", type=pathlib.Path, help="measure the vendor's libraries on the shapes of that file, and nothing else")
    p.add_argument("--round", type=int, default=0, help="number of --shapes's samples")
    args = p.parse_args()
    torch.set_grad_enabled(False)
    if args.write_shapes:
        args.write_shapes.write_text(json.dumps(described(args.models, args.families, args.suffix, 12)))
        return
    limits = Limits(args, devices.open_device(args.device))
    if args.shapes:
        limits.vendor(SHAPES, json.loads(args.shapes.read_text()))
    else:
        limits.attempt("limits of the machine", limits.rates)
        limits.attempt("limits of the machine", limits.copies)
    print(json.dumps({"machine": limits.device.describe(), "versions": record.versions(),
                      "samples": limits.samples, "failures": limits.failures}))


if __name__ == "__main__":
    main()
