"""Compares the latents of a few steps in float16, ours and diffusers', with those of diffusers in float32, all on the GPU and
from the same noise, and prints samples as JSON: relative L2 differences.

    python bench/peers/precision.py -m $EURYALE_MODELS/sd15 --case "sd15, 512x512, GPU" --size 512 \\
        --euryale './euryale generate --device cuda:0 --quiet -o {tmp}/out.png'
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import tempfile

import numpy as np
import torch
from diffusers import DiffusionPipeline
from safetensors.numpy import load_file

PROMPT = "a photograph of an astronaut riding a horse"


def theirs(args, dtype):
    pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=dtype, safety_checker=None).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    # Noise of the same seed is other noise in float16.
    side = args.size // pipe.vae_scale_factor
    noise = torch.randn(1, pipe.unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(args.seed))
    latents = pipe(prompt=PROMPT, num_inference_steps=args.steps, width=args.size, height=args.size, output_type="latent",
                   latents=noise.to(args.device, dtype)).images
    return latents.float().cpu().numpy()


def ours(args):
    with tempfile.TemporaryDirectory() as tmp:
        command = [*shlex.split(args.euryale.format(tmp=tmp)), "-m", str(args.model), "-p", PROMPT, "--steps", str(args.steps), "-s", str(args.seed),
                   "-W", str(args.size), "-H", str(args.size), "--latents-out", f"{tmp}/latents.safetensors"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return next(iter(load_file(f"{tmp}/latents.safetensors").values()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", dest="model", type=pathlib.Path, required=True)
    p.add_argument("--case", required=True)
    p.add_argument("--euryale", required=True)
    p.add_argument("--size", type=int, required=True)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("-s", dest="seed", type=int, default=7)
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--half", action="store_true", help="float16 on the CPU too")
    p.add_argument("--small", action="store_true", help="accepted, as by the other scripts")
    args = p.parse_args()
    # float32 is to be float32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    want = theirs(args, torch.float32)
    found = {"euryale": ours(args), "resident": theirs(args, torch.float16 if args.device == "cuda" or args.half else torch.float32)}
    samples = [{"case": args.case, "engine": engine, "quantity": f"error of latents, {args.steps} steps", "unit": "rel. L2", "round": 0,
                "value": float(np.linalg.norm(got - want) / np.linalg.norm(want))} for engine, got in found.items()]
    if not samples[1]["value"] < 0.1:
        raise SystemExit(f"diffusers' own latents differ by {samples[1]['value']:.2g}: they are not of the same picture")
    print(json.dumps({"samples": samples}))


if __name__ == "__main__":
    main()
