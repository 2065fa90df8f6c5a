"""Times Euryale, diffusers on PyTorch and onnxruntime on the same weights, in turns, with the same number of threads.

    go run ./bench/mkmodel -family sd15 -o $EURYALE_MODELS/sd15
    python bench/peers/peers.py --models $EURYALE_MODELS [--onnx] [--rounds 5]

Needs the packages of internal/golden/requirements.txt and, for --onnx, of bench/peers/requirements.txt. Run it from
the repository; it builds the Go benchmarks itself. What it prints is medians over the rounds and, per round, the
ratio of the peer's time to Euryale's.
"""

import argparse
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel


def euryale(binary, name, env):
    """Seconds of one pass of a Go benchmark, after one pass to warm up."""
    out = subprocess.run([binary, "-test.run", "^$", "-test.bench", f"^{name}$", "-test.benchtime", "2x"],
                         env=env, capture_output=True, text=True, check=True).stdout
    m = re.search(r"(\d+) ns/op", out)
    if not m:
        sys.exit(out)
    return int(m[1]) / 1e9


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


class Decoder(torch.nn.Module):
    """The network of VAE decode alone, as the benchmark runs it."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, z):
        return self.vae.decode(z, return_dict=False)[0]


def networks(models):
    """Name of the Go benchmark, module, inputs, names of the inputs."""
    torch.manual_seed(0)
    yield ("BenchmarkTextEncode", CLIPTextModel.from_pretrained(models / "sd15/text_encoder", torch_dtype=torch.float32),
           (torch.randint(0, 49407, (2, 77)),), ["input_ids"])
    yield ("BenchmarkVAEDecode", Decoder(AutoencoderKL.from_pretrained(models / "sd15/vae", torch_dtype=torch.float32)),
           (torch.randn(1, 4, 64, 64),), ["latents"])
    yield ("BenchmarkUNetStep", UNet2DConditionModel.from_pretrained(models / "sd15/unet", torch_dtype=torch.float32),
           (torch.randn(2, 4, 64, 64), torch.tensor(500), torch.randn(2, 77, 768)), ["sample", "timestep", "encoder_hidden_states"])


def onnx_session(module, inputs, names, threads, folder):
    import onnxruntime

    if isinstance(module, CLIPTextModel):
        module.config.return_dict = False
    path = os.path.join(folder, "model.onnx")
    torch.onnx.export(module, inputs, path, input_names=names, opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = {i.name for i in session.get_inputs()}
    feed = {n: x.numpy() for n, x in zip(names, inputs) if n in taken}
    return lambda: session.run(None, feed)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--onnx", action="store_true", help="onnxruntime too")
    p.add_argument("--only", help="one benchmark")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    env = dict(os.environ, EURYALE_MODELS=str(args.models), GOMAXPROCS=str(args.threads))
    versions = [f"torch {torch.__version__}", f"python {platform.python_version()}", f"threads {args.threads}"]
    if args.onnx:
        import onnxruntime
        versions.append(f"onnxruntime {onnxruntime.__version__}")
    versions.append(torch.backends.cpu.get_cpu_capability())
    print(", ".join(versions), flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        binary = os.path.join(tmp, "bench.test")
        subprocess.run(["go", "test", "-c", "-o", binary, "./bench"], check=True)
        for name, module, inputs, names in networks(args.models):
            if args.only and args.only not in name:
                continue
            module.eval()
            runs = {"euryale": lambda: euryale(binary, name, env)}
            runs["pytorch"] = lambda: timed(lambda: module(*inputs))
            if args.onnx:
                session = onnx_session(module, inputs, names, args.threads, tmp)
                runs["onnxruntime"] = lambda: timed(session)
            for peer in list(runs)[1:]:
                runs[peer]()  # warm up
            times = {k: [] for k in runs}
            for _ in range(args.rounds):
                for k, run in runs.items():
                    times[k].append(run())
            line = [f"{name[9:]}: euryale {statistics.median(times['euryale']):.3f} s"]
            for k in list(runs)[1:]:
                ratio = statistics.median(b / a for a, b in zip(times["euryale"], times[k]))
                line.append(f"{k} {statistics.median(times[k]):.3f} s = {ratio:.2f} x euryale's")
            print(", ".join(line), flush=True)


if __name__ == "__main__":
    main()
