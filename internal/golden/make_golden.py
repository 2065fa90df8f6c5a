"""Makes the golden files: what diffusers on PyTorch gives, for the Go tests to compare with.

    make golden

Three tiny pipelines with random weights, of the families of Stable Diffusion 1, 2 and XL, are written to testdata
in the diffusers layout; then every part of them runs in float32 on the CPU. Inputs come from torch.randn with seeds
that the tests repeat, so that only results are stored.
"""

import hashlib
import json
import pathlib
import shutil
import sys

sys.modules["ftfy"] = None  # the tokenizer does not depend on whether it is installed

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import make_blocks
import make_layers
import make_schedulers

HERE = pathlib.Path(__file__).parent
OUT = HERE / "testdata"
sys.path.insert(0, str(HERE.parent.parent / "loader" / "tiny"))
import train as tiny  # noqa: E402


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomize(model, seed):
    """Weights that keep activations about as large as they are, so that every layer counts."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            n = torch.randn(p.shape, generator=rng)
            if "embedding" in name and p.dim() == 2 and "time" not in name and "add" not in name:
                p.copy_(0.5 * n)
            elif p.dim() > 1:
                p.copy_(n / p[0].numel() ** 0.5)
            else:
                p.copy_(0.1 * n + (1 if name.endswith("weight") else 0))
    return model.eval()


def text_encoder(tok, seed, cls=CLIPTextModel, **kw):
    end = len(tok) - 1
    cfg = dict(vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
               max_position_embeddings=tok.model_max_length, projection_dim=32, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end)
    return randomize(cls(CLIPTextConfig(**{**cfg, **kw})), seed)


def autoencoder(seed, **kw):
    return randomize(AutoencoderKL(
        block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, **kw), seed)


def unet(seed, **kw):
    return randomize(UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, norm_num_groups=8, **kw), seed)


def pipelines():
    """The three families. Each is saved in another way, and loaded back so that both sides see the same bits."""
    tok = tiny.write_tokenizer(OUT / "tok")
    none = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    sd = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    one = StableDiffusionPipeline(
        vae=autoencoder(1, scaling_factor=0.18215), text_encoder=text_encoder(tok, 2, hidden_act="quick_gelu"), tokenizer=tok,
        unet=unet(3, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32, attention_head_dim=4,
                  down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
        scheduler=PNDMScheduler(**sd, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False), **none)
    two = StableDiffusionPipeline(
        vae=autoencoder(4, scaling_factor=0.5), text_encoder=text_encoder(tok, 5, hidden_act="gelu", hidden_size=48, intermediate_size=96), tokenizer=tok,
        unet=unet(6, block_out_channels=(16, 32, 32), layers_per_block=2, cross_attention_dim=48, attention_head_dim=[2, 4, 8],
                  use_linear_projection=True, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                  up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
        scheduler=DDIMScheduler(**sd, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"), **none)
    tok2 = CLIPTokenizer(OUT / "tok/vocab.json", OUT / "tok/merges.txt", model_max_length=tok.model_max_length, pad_token="!")
    xl = StableDiffusionXLPipeline(
        vae=autoencoder(7, scaling_factor=0.13025, force_upcast=True), tokenizer=tok, tokenizer_2=tok2,
        text_encoder=text_encoder(tok, 8, hidden_act="quick_gelu", num_hidden_layers=2),
        text_encoder_2=text_encoder(tok, 9, CLIPTextModelWithProjection, hidden_act="gelu", hidden_size=24, num_attention_heads=3, projection_dim=20),
        unet=unet(10, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=56, attention_head_dim=[2, 4], use_linear_projection=True,
                  transformer_layers_per_block=[1, 2], addition_embed_type="text_time", addition_time_embed_dim=8,
                  projection_class_embeddings_input_dim=6 * 8 + 20,
                  down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
        scheduler=diffusers.EulerDiscreteScheduler(**sd, timestep_spacing="leading", steps_offset=1), force_zeros_for_empty_prompt=True)
    one.save_pretrained(OUT / "sd1")
    # As the published model has it: without, a random model under DDIM is chaotic, and no two programs agree.
    config = OUT / "sd1/scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "clip_sample": False}, indent=2))
    two.to(torch.bfloat16).save_pretrained(OUT / "sd2", max_shard_size="150KB")
    xl.to(torch.float16).save_pretrained(OUT / "sdxl", variant="fp16")
    shutil.rmtree(OUT / "tok")
    load = dict(torch_dtype=torch.float32)
    return {
        "sd1": StableDiffusionPipeline.from_pretrained(OUT / "sd1", **load, safety_checker=None, requires_safety_checker=False),
        "sd2": StableDiffusionPipeline.from_pretrained(OUT / "sd2", **load, safety_checker=None, requires_safety_checker=False),
        "sdxl": StableDiffusionXLPipeline.from_pretrained(OUT / "sdxl", variant="fp16", **load),
    }


PROMPTS = ["a red circle on a blue background", "", "A wide river, at night; 3 boats & no moon (quiet)"]


def parts(name, pipe):
    """Results of each network alone."""
    out = {}
    for suffix in ["", "_2"]:
        enc = getattr(pipe, "text_encoder" + suffix, None)
        if enc is None:
            continue
        tok = getattr(pipe, "tokenizer" + suffix)
        ids = tok(PROMPTS, padding="max_length", max_length=tok.model_max_length, truncation=True, return_tensors="pt").input_ids
        r = enc(ids, output_hidden_states=True)
        out["text_encoder" + suffix + ".input_ids"] = ids
        for i, h in enumerate(r.hidden_states):
            out[f"text_encoder{suffix}.hidden_states.{i}"] = h
        out[f"text_encoder{suffix}.last_hidden_state"] = r.last_hidden_state
        out[f"text_encoder{suffix}.pooled"] = r.text_embeds if hasattr(r, "text_embeds") else r.pooler_output
    cross = pipe.unet.config.cross_attention_dim
    for h, w in [(16, 16), (10, 14), (7, 9)]:
        added = None
        if name == "sdxl":
            added = {"text_embeds": randn(3, 2, 20), "time_ids": torch.tensor([[64.0, 48, 0, 8, 64, 48], [40, 56, 4, 0, 40, 56]])}
        out[f"unet.{h}x{w}"] = pipe.unet(randn(1, 2, 4, h, w), torch.tensor([981.0, 12.5]), randn(2, 2, 9, cross), added_cond_kwargs=added).sample
    out["vae.decode"] = pipe.vae.decode(randn(4, 1, 4, 10, 14)).sample
    out["vae.encode"] = pipe.vae.encode(randn(5, 2, 3, 40, 24)).latent_dist.parameters
    pipe.vae.enable_tiling()
    out["vae.decode.tiled"] = pipe.vae.decode(randn(6, 1, 4, 21, 14)).sample
    pipe.vae.disable_tiling()
    return {k: v.detach().contiguous() for k, v in out.items()}


RED = PROMPTS[0]
PICTURES = [  # name, folder, scheduler class and changes to it, arguments
    ("sd1", "sd1", None, {}, dict(prompt=RED, num_inference_steps=20)),
    ("sd1 without guidance", "sd1", None, {}, dict(prompt=RED, num_inference_steps=5, guidance_scale=1.0)),
    ("sd1 negative prompt, clip skip, not square", "sd1", "DDIMScheduler", {}, dict(
        prompt=RED, negative_prompt="a cross", clip_skip=1, height=48, width=88, num_inference_steps=20)),
    ("sd1 eta", "sd1", "DDIMScheduler", {}, dict(prompt=RED, eta=0.7, num_inference_steps=20)),
    ("sd1 two pictures, ancestral", "sd1", "EulerAncestralDiscreteScheduler", {}, dict(
        prompt=RED, num_images_per_prompt=2, num_inference_steps=20)),
    ("sd1 dpm++2m karras", "sd1", "DPMSolverMultistepScheduler", dict(use_karras_sigmas=True), dict(prompt=RED, num_inference_steps=20)),
    ("sd1 lcm", "sd1", "LCMScheduler", {}, dict(prompt=RED, num_inference_steps=4, guidance_scale=2.0)),
    ("sd2", "sd2", None, {}, dict(prompt=PROMPTS[2], num_inference_steps=20)),
    ("sd2 rescaled guidance", "sd2", None, {}, dict(prompt=RED, guidance_rescale=0.7, num_inference_steps=20)),
    ("sd2 euler", "sd2", "EulerDiscreteScheduler", {}, dict(prompt=RED, num_inference_steps=20)),
    ("sdxl", "sdxl", None, {}, dict(prompt=RED, num_inference_steps=20)),
    ("sdxl negative and second prompts, sizes", "sdxl", None, {}, dict(
        prompt=RED, prompt_2="a ring", negative_prompt="a cross", negative_prompt_2="a bar", height=56, width=72,
        original_size=(100, 120), crops_coords_top_left=(3, 5), target_size=(56, 72), num_inference_steps=20)),
    ("sdxl clip skip, two pictures, dpm++2m", "sdxl", "DPMSolverMultistepScheduler", {}, dict(
        prompt=RED, clip_skip=1, num_images_per_prompt=2, guidance_rescale=0.5, num_inference_steps=20)),
]


def pictures(pipes):
    tensors, manifest = {}, []
    for i, (name, folder, cls, changes, kw) in enumerate(PICTURES):
        pipe = pipes[folder]
        saved = pipe.scheduler
        if cls:
            pipe.scheduler = getattr(diffusers, cls).from_config(saved.config, **changes)
        last = {}
        images = pipe(**kw, generator=torch.Generator().manual_seed(100 + i), output_type="pil",
                      callback_on_step_end=lambda p, n, t, d: last.update(d) or d).images
        pipe.scheduler = saved
        tensors[f"{i}.latents"] = last["latents"].contiguous()
        tensors[f"{i}.images"] = torch.tensor(np.stack([np.array(x) for x in images]))
        manifest.append(dict(name=name, folder=folder, scheduler=cls or "", changes=changes, seed=100 + i, arguments=kw))
    return tensors, manifest


def randn_bits():
    cases = []
    for seed in (0, 1, 42, 2**32 + 5, 0x7EDCBA9876543210):
        for sizes in ([1], [2], [5], [15], [16], [17], [31], [100], [1000], [16384], [3, 16, 1, 5, 20, 7, 100]):
            rng, digest, first = torch.Generator().manual_seed(seed), hashlib.sha256(), None
            for n in sizes:
                x = torch.randn(n, generator=rng)
                digest.update(x.numpy().tobytes())
                if first is None:
                    first = [v & 0xFFFFFFFF for v in x.view(torch.int32)[:4].tolist()]
            cases.append(dict(seed=str(seed), sizes=sizes, first=first, sha256=digest.hexdigest()))
    return cases


def dump(file, cases):
    """JSON with one case a line."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    dump(HERE.parent / "torchrand/testdata/randn.json", randn_bits())
    pipes = pipelines()
    for name, pipe in pipes.items():
        pipe.set_progress_bar_config(disable=True)
        save_file(parts(name, pipe), OUT / f"{name}.safetensors")
    tensors, manifest = pictures(pipes)
    save_file(tensors, OUT / "pictures.safetensors")
    dump(OUT / "pictures.json", manifest)
    make_blocks.write(OUT)
    make_schedulers.write(OUT)
    make_layers.write(OUT)


if __name__ == "__main__":
    main()
