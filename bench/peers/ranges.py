"""Prints the largest activation in each network of full-size folders: float16 ends at 65504.

    python bench/peers/ranges.py --models $EURYALE_MODELS --families sd15 sd21 sdxl

Computes in bfloat16, which has float32's range and takes half its memory.
"""

import argparse
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--families", nargs="*", default=["sd15", "sd21", "sdxl"])
    args = p.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    for family in args.families:
        for part, run in NETWORKS.items():
            if (args.models / family / part).exists():
                most, where = run(args.models / family / part)
                print(f"{family} {part}: {most:.4g} at {where}", flush=True)


def largest(module, run):
    """The largest absolute value that any layer of module returns in run, and the layer."""
    found = (0.0, "")

    def hook(name):
        def look(m, inputs, output):
            nonlocal found
            if torch.is_tensor(output):
                value = output.abs().max().item()
                if not value <= found[0]:  # a NaN counts as larger
                    found = value, name
        return look

    for name, m in module.named_modules():
        m.register_forward_hook(hook(name))
    run()
    return found


def text(cls):
    def run(path):
        m = cls.from_pretrained(path, torch_dtype=torch.bfloat16)
        return largest(m, lambda: m(torch.randint(0, m.config.vocab_size, (1, 77))))
    return run


def unet(path):
    m = UNet2DConditionModel.from_pretrained(path, torch_dtype=torch.bfloat16)
    more = {}
    if m.config.addition_embed_type == "text_time":
        pooled = m.config.projection_class_embeddings_input_dim - 6 * m.config.addition_time_embed_dim
        more = {"added_cond_kwargs": {"text_embeds": torch.randn(1, pooled).bfloat16(), "time_ids": torch.full((1, 6), 1024.0)}}
    context = torch.randn(1, 77, m.config.cross_attention_dim).bfloat16()
    return largest(m, lambda: m(torch.randn(1, 4, 64, 64).bfloat16(), 999, context, **more))


def vae(path):
    m = AutoencoderKL.from_pretrained(path, torch_dtype=torch.bfloat16)
    # Latents of unit variance, divided by the scaling factor as a pipeline does.
    return largest(m, lambda: m.decode(torch.randn(1, 4, 32, 32).bfloat16() / m.config.scaling_factor))


NETWORKS = {"text_encoder": text(CLIPTextModel), "text_encoder_2": text(CLIPTextModelWithProjection), "unet": unet, "vae": vae}

if __name__ == "__main__":
    main()
