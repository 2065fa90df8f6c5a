"""Makes pictures with one variant of diffusers on the GPU and prints samples as JSON. gpu.py runs this, each variant
in a process of its own.

    python bench/peers/gpu_rival.py --variant "model offload" -m $EURYALE_MODELS/sdxl --size 1024
"""

import argparse
import json
import pathlib
import resource
import tempfile

import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading

import device as devices


def resident(pipe, device):
    pipe.to(device.name)


def channels_last(pipe, device):
    pipe.to(device.name)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)


def compiled(**how):
    def place(pipe, device):
        channels_last(pipe, device)
        pipe.unet = torch.compile(pipe.unet, fullgraph=True, **how)
        pipe.vae.decode = torch.compile(pipe.vae.decode)  # its weights may change type, which graphs do not stand
    return place


def model_offload(pipe, device):
    pipe.enable_model_cpu_offload(device=device.name)


def sequential_offload(pipe, device):
    pipe.enable_sequential_cpu_offload(device=device.name)


def group_offload(kind, **streams):
    """Blocks are the UNet's; the other networks, which have few or none, go leaf by leaf in any case."""
    def place(pipe, device):
        for name, module in pipe.components.items():
            if not isinstance(module, torch.nn.Module):
                continue
            blocks = kind == "block_level" and name == "unet"
            how = {"offload_type": "block_level", "num_blocks_per_group": 1} if blocks else {"offload_type": "leaf_level"}
            apply_group_offloading(module, onload_device=torch.device(device.name), offload_device=torch.device("cpu"),
                                   **how, **streams)
    return place


VARIANTS = {
    "resident": resident,
    "resident, channels-last": channels_last,
    "resident, compiled": compiled(),
    "resident, compiled, reduce-overhead": compiled(mode="reduce-overhead"),
    "model offload": model_offload,
    "sequential offload": sequential_offload,
    "group offload, block": group_offload("block_level"),
    "group offload, block, stream": group_offload("block_level", use_stream=True),
    "group offload, block, stream, record_stream": group_offload("block_level", use_stream=True, record_stream=True),
    "group offload, leaf": group_offload("leaf_level"),
    "group offload, leaf, stream": group_offload("leaf_level", use_stream=True),
    "group offload, leaf, stream, record_stream": group_offload("leaf_level", use_stream=True, record_stream=True),
}


class Rival:
    def __init__(self, args, device):
        self.args, self.device, self.samples = args, device, []
        begin = device.now()
        self.pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=device.dtype)
        self.pipe.set_progress_bar_config(disable=True)
        VARIANTS[args.variant](self.pipe, device)
        self.add("load", "s", 0, device.now() - begin)

    def add(self, quantity, unit, round, value, work=None):
        if value is not None:
            self.samples.append({"quantity": quantity, "unit": unit, "round": round, "value": value}
                                | ({"work": work, "work_unit": "B"} if work else {}))

    def picture(self, on_step=None):
        """Makes a picture. Returns when it began, when each step ended, and when it was done."""
        at = [self.device.now()]

        def step(pipe, i, t, kwargs):
            at.append(self.device.now())
            if on_step:
                on_step(i)
            return kwargs

        image = self.pipe(self.args.prompt, num_inference_steps=self.args.steps, height=self.args.size, width=self.args.size,
                          generator=torch.Generator().manual_seed(self.args.seed), output_type="pt", callback_on_step_end=step).images
        at.append(self.device.now())
        if not torch.isfinite(image).all():
            raise ArithmeticError("the picture has values that are not finite")
        return at

    def memory(self, most):
        """Peaks until the first picture was done: of the allocator, of the driver beyond its context, of the host."""
        allocated, reserved = self.device.peaks()
        self.add("device memory, tensors", "B", 0, allocated)
        self.add("device memory, allocator", "B", 0, reserved)
        self.add("device memory, driver", "B", 0, most["driver"])
        self.add("host memory", "B", 0, most["host"])
        self.add("host RSS", "B", 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)

    def times(self):
        steps = []
        for round in range(self.args.rounds):
            at = self.picture()
            for a, b in zip(at[1:-2], at[2:-1]):  # the first step has the text encoders in it
                self.add("UNet step", "s", round, b - a)
                steps.append(b - a)
            self.add("VAE decode", "s", round, at[-1] - at[-2])
            self.add(f"picture, {self.args.steps} steps", "s", round, at[-1] - at[0])
        return steps

    def copies(self, steps):
        """Bytes that go to the device in the steps but the first, from the profiler: against the time of a step, and
        against the time in which the copy engine was busy."""
        last = self.args.steps - 1
        profiler = self.device.profiler()

        def on_step(i):
            if i == 0:
                profiler.start()
            if i == last:
                profiler.stop()

        self.picture(on_step)
        with tempfile.TemporaryDirectory() as tmp:
            profiler.export_chrome_trace(f"{tmp}/trace.json")
            moved, busy = copied(json.loads(pathlib.Path(f"{tmp}/trace.json").read_text()))
        if moved > 1 << 20 or (moved and self.args.small):  # a timestep or two is no offloading
            for seconds in steps:
                self.add("upload, over a step", "s", 0, seconds, moved / last)
            self.add("upload, while copying", "s", 0, busy / last, moved / last)


def copied(trace):
    """Bytes copied to the device, and the seconds in which such a copy was under way."""
    moved, spans = 0, []
    for e in trace["traceEvents"]:
        if e.get("cat") == "gpu_memcpy" and "HtoD" in e["name"]:
            moved += e["args"]["bytes"]
            spans.append((e["ts"], e["ts"] + e["dur"]))
    busy, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return moved, busy / 1e6


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--variant", choices=list(VARIANTS), required=True)
    p.add_argument("-m", dest="model", type=pathlib.Path, required=True)
    p.add_argument("-p", dest="prompt", default="a photograph of an astronaut riding a horse")
    p.add_argument("-s", dest="seed", type=int, default=7)
    p.add_argument("--size", type=int, required=True)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--small", action="store_true")
    args = p.parse_args()
    torch.set_grad_enabled(False)
    device, most = devices.open_device(args.device), {}
    with devices.watch(device, most):
        r = Rival(args, device)
        r.picture()  # warms up
    r.memory(most)
    r.copies(r.times())
    print(json.dumps({"samples": r.samples}))


if __name__ == "__main__":
    main()
