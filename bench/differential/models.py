"""The part of the differential about models: folders with random configs and weights, and random requests, whole pictures."""

import base64
import functools
import json
import logging
import pathlib
import random
import shutil
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "internal" / "golden"))

import diffusers
import make_matrix as matrix
import numpy as np
import torch
from diffusers import DiffusionPipeline

torch.set_num_threads(1)
COUNT = 576


def pick(rng, *values):
    return rng.choice(values)


def random_unet(rng, family):
    n = rng.randint(1, 4)
    groups = pick(rng, 2, 4)
    channels = [8 * rng.randint(1, 3) for _ in range(n)]
    cross = [rng.random() < 0.6 for _ in range(n)]
    layers = [rng.randint(1, 2) for _ in range(n)]
    c = dict(
        sample_size=pick(rng, 8, 10, [8, 12]) if family != "sdxl" else pick(rng, 8, 10), block_out_channels=channels, norm_num_groups=groups,
        down_block_types=["CrossAttnDownBlock2D" if x else "DownBlock2D" for x in cross],
        up_block_types=["CrossAttnUpBlock2D" if x else "UpBlock2D" for x in reversed(cross)],
        layers_per_block=pick(rng, layers, layers[0]), attention_head_dim=pick(rng, 2, [pick(rng, 1, 2, 4) for _ in range(n)]),
        mid_block_type=pick(rng, *["UNetMidBlock2DCrossAttn"] * 4, "UNetMidBlock2D", None), use_linear_projection=pick(rng, True, False),
        transformer_layers_per_block=pick(rng, 1, [rng.randint(0, 2) for _ in range(n)]), norm_eps=pick(rng, 1e-5, 1e-6, 1e-3),
        flip_sin_to_cos=pick(rng, True, True, False), freq_shift=pick(rng, 0, 0, 1), time_embedding_act_fn=pick(rng, None, None, "silu"),
        upcast_attention=pick(rng, True, False), act_fn=pick(rng, "silu", "swish"), dropout=pick(rng, 0.0, 0.3),
        _diffusers_version=pick(rng, "0.34.0", "0.21.4", "0.9.0.dev0"))
    return {k: v for k, v in c.items() if k in ("block_out_channels", "down_block_types", "up_block_types", "norm_num_groups", "sample_size")
            or rng.random() < 0.7}


def random_folder(rng):
    family = pick(rng, "sd1", "sd2", "sdxl")
    f = matrix.Folder(family)
    unet, vae = f.json["unet/config.json"], f.json["vae/config.json"]
    kept = {k: unet[k] for k in ("cross_attention_dim", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim") if k in unet}
    unet.clear()
    unet.update(_class_name="UNet2DConditionModel", in_channels=4, out_channels=4, layers_per_block=1, attention_head_dim=2, **kept)
    unet.update(random_unet(rng, family))
    n = rng.randint(1, 4)
    vae.update(block_out_channels=[8 * rng.randint(1, 2) for _ in range(n)], down_block_types=["DownEncoderBlock2D"] * n,
               up_block_types=["UpDecoderBlock2D"] * n, layers_per_block=rng.randint(1, 2), mid_block_add_attention=pick(rng, True, True, False),
               use_quant_conv=pick(rng, True, False), use_post_quant_conv=pick(rng, True, False), scaling_factor=pick(rng, 0.18215, 0.13025, 1.0),
               shift_factor=pick(rng, None, 0.1), force_upcast=pick(rng, True, False))
    for c in [c for c in f.components() if c.startswith("text")]:
        f.json[f"{c}/config.json"].update(num_hidden_layers=rng.randint(2, 4), intermediate_size=pick(rng, 16, 32, 40), hidden_act=pick(rng, "gelu", "quick_gelu"),
                                          layer_norm_eps=pick(rng, 1e-5, 1e-6), eos_token_id=pick(rng, 575, 575, 2))
    if family == "sdxl":
        index = f.json["model_index.json"]
        for v in [pick(rng, matrix.ABSENT, True, False)]:
            index.pop("force_zeros_for_empty_prompt", None)
            if v is not matrix.ABSENT:
                index["force_zeros_for_empty_prompt"] = v
    random_scheduler(rng, f)
    f.add_weights(pick(rng, "F32", "F32", "F16", "BF16", "F64"))
    return f


def random_scheduler(rng, f):
    cls = rng.choice(matrix.SCHEDULERS)
    config = dict(_class_name=cls, **matrix.NOISE, steps_offset=pick(rng, 0, 1), prediction_type=pick(rng, "epsilon", "v_prediction"))
    config.update(clip_sample=False, skip_prk_steps=True)
    for key, values in dict(timestep_spacing=["leading", "linspace", "trailing"], set_alpha_to_one=[True, False], use_karras_sigmas=[True, False],
                            solver_order=[1, 2], solver_type=["midpoint", "heun"], final_sigmas_type=["zero", "sigma_min"]).items():
        if rng.random() < 0.4:
            config[key] = rng.choice(values)
    expected = matrix.inspect.signature(getattr(diffusers, cls).__init__).parameters
    f.json["scheduler/scheduler_config.json"] = {k: v for k, v in config.items() if k == "_class_name" or k in expected}
    f.json["model_index.json"]["scheduler"] = ["diffusers", cls]
    f.scheduler = rng.choice(matrix.SCHEDULERS) if rng.random() < 0.3 else ""


PROMPTS = ["a red circle", "", "A wide river, at night; 3 boats & no moon (quiet)", "one, two, three! " * 20, "naïve café 漢字 🎉"]


def random_request(rng, f):
    r = dict(prompt=rng.choice(PROMPTS), num_inference_steps=rng.randint(1, 6), guidance_scale=pick(rng, 1.0, 1.5, 2.0, 3.0))
    if rng.random() < 0.3:
        r["negative_prompt"] = rng.choice(PROMPTS[:1] + PROMPTS[2:])
    if rng.random() < 0.3:
        r["clip_skip"] = 1
    if rng.random() < 0.2:
        r["num_images_per_prompt"] = 2
    if rng.random() < 0.3:
        unit = max(8, 2 ** (len(f.json["vae/config.json"]["block_out_channels"]) - 1))
        r.update(height=unit * rng.randint(4, 8), width=unit * rng.randint(4, 8))
    if rng.random() < 0.2:
        r["guidance_rescale"] = 0.5
    if f.family == "sdxl" and rng.random() < 0.3:
        r.update(prompt_2="a ring", original_size=[100, 120], crops_coords_top_left=[3, 5])
    return r


def cases():
    folders = pathlib.Path(tempfile.gettempdir()) / "differential-models"
    shutil.rmtree(folders, ignore_errors=True)
    for seed in range(COUNT):
        rng = random.Random(seed)
        f = random_folder(rng)
        at = folders / str(seed)
        f.write(at)
        yield dict(Seed=seed, Folder=str(at), Scheduler=f.scheduler, Arguments=random_request(rng, f))


def draw(c, dtype):
    pipe = DiffusionPipeline.from_pretrained(c["Folder"], torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if c["Scheduler"]:
        pipe.scheduler = getattr(diffusers, c["Scheduler"]).from_config(pipe.scheduler.config)
    last, generator = {}, torch.Generator().manual_seed(c["Seed"])
    if dtype == torch.float64:  # the same noise
        plain = torch.randn
        torch.randn = functools.partial(lambda *a, plain=plain, dtype=None, **kw: plain(*a, dtype=torch.float32, **kw).double())
        try:
            images = call(pipe, c, generator, last)
        finally:
            torch.randn = plain
    else:
        images = call(pipe, c, generator, last)
    return last["latents"].double().numpy(), images


def call(pipe, c, generator, last):
    return pipe(**c["Arguments"], generator=generator, output_type="np", callback_on_step_end=lambda p, n, t, d: last.update(d) or d).images


def rel(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


@torch.no_grad()
def compare(c, a):
    try:
        try:
            latents, images = draw(c, torch.float32)
        except Exception as e:
            if a["Error"]:
                return "refused", None
            return "DIFFERENT", f"diffusers refuses: {type(e).__name__}: {str(e)[:90]}"
        if not np.isfinite(latents).all():
            return ("not finite", None) if "finite" in a["Error"] else ("DIFFERENT", "diffusers' latents are not finite")
        if a["Error"]:
            return "DIFFERENT", f"refused: {a['Error']}"
        ours = np.frombuffer(base64.b64decode(a["Latents"]), np.float32).reshape(a["Shape"])
        pixels = np.frombuffer(base64.b64decode(a["Pixels"]), np.uint8)
        theirs = np.round(images * 255).astype(np.uint8).reshape(-1)
        if ours.shape != latents.shape or pixels.shape != theirs.shape:
            return "DIFFERENT", f"latents {ours.shape}, want {latents.shape}"
        d = rel(ours, latents)
        off = np.abs(pixels.astype(int) - theirs.astype(int)).max()
        if d <= 1e-4 and off <= 1:
            return "equal", None
        # Random models can be chaotic: the same in float64 says how far rounding alone takes the reference.
        exact, exact_images = draw(c, torch.float64)
        mine, its = rel(ours, exact), rel(latents, exact)
        if np.isfinite(exact).all() and mine <= 4 * its:
            return "rounding", None
        return "DIFFERENT", f"latents {d:.2g}, pixels {off}; against float64 {mine:.2g}, diffusers {its:.2g}"
    finally:
        shutil.rmtree(c["Folder"], ignore_errors=True)
