"""Compares two steps of Euryale with diffusers on full-size folders of random weights: latents and picture.

    for f in sd15 sd21 sdxl; do go run ./bench/mkmodel -family $f -o $EURYALE_MODELS/$f; done
    python bench/peers/compare.py --models $EURYALE_MODELS

Needs the packages of internal/golden/requirements.txt; SDXL takes 16 GiB of memory in diffusers. Both sides compute in
float32 from the same float16 files, with the same prompt, seed and scheduler, at the model's own size.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.numpy import load_file

PROMPT = "a photograph of an astronaut riding a horse"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--families", nargs="*", default=["sd15", "sd21", "sdxl"])
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--size", type=int, help="pixels, in place of the model's own")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        binary = f"{tmp}/euryale"
        subprocess.run(["go", "build", "-o", binary, "./cmd/euryale"], check=True)
        for family in args.families:
            size = [] if args.size is None else ["-W", str(args.size), "-H", str(args.size)]
            subprocess.run([binary, "generate", "-m", args.models / family, "-p", PROMPT, "--steps", str(args.steps), "-s", "7",
                            "-o", f"{tmp}/ours.png", "--latents-out", f"{tmp}/ours.safetensors", *size], check=True)
            ours = next(iter(load_file(f"{tmp}/ours.safetensors").values()))
            picture = np.asarray(Image.open(f"{tmp}/ours.png").convert("RGB"), int)

            pipe = DiffusionPipeline.from_pretrained(args.models / family, torch_dtype=torch.float32, safety_checker=None)
            pipe.set_progress_bar_config(disable=True)
            kept = {}
            run = dict(prompt=PROMPT, num_inference_steps=args.steps, width=args.size, height=args.size,
                       generator=torch.Generator().manual_seed(7))

            def keep(pipe, step, timestep, kwargs):
                kept["latents"] = kwargs["latents"].numpy().copy()
                return kwargs

            theirs = np.asarray(pipe(**run, callback_on_step_end=keep).images[0], int)
            want = kept["latents"]
            print(f"{family} {picture.shape[1]}x{picture.shape[0]}, {args.steps} steps: latents rel. L2 "
                  f"{np.linalg.norm(ours - want) / np.linalg.norm(want):.2g}, largest difference of a channel "
                  f"{abs(picture - theirs).max()}/255, spread of the picture {theirs.std():.0f}", flush=True)
            del pipe


if __name__ == "__main__":
    main()
