"""Makes models.json.gz of unet, vae and textenc, and unet's seams.json.gz: small models of each kind and their results.

    make golden

A case is a config, the names and shapes of the weights that diffusers or transformers have for it, inputs and results.
Values of weights follow from their names, as in make_matrix.py, and inputs of many numbers are torch.randn with a
seed, so that only results are stored.
"""

import base64
import gzip
import json
import pathlib
import sys

sys.modules["ftfy"] = None

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import (
    AttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    PAGIdentitySelfAttnProcessor2_0,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from make_matrix import values

ROOT = pathlib.Path(__file__).parent.parent.parent


def stored(x):
    x = x.detach().float().contiguous()
    return dict(shape=list(x.shape), f32=base64.b64encode(x.numpy().tobytes()).decode())


def listed(x):
    return dict(shape=list(x.shape), values=x.flatten().tolist())


class Inputs:
    """Inputs of a case, by name; each of many numbers has a seed of its own."""

    def __init__(self):
        self.json = {}

    def randn(self, name, *shape):
        seed = len(self.json) + 1
        self.json[name] = dict(shape=list(shape), seed=seed)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def given(self, name, x):
        self.json[name] = listed(x)
        return x


def fill(model, rename=lambda name: name):
    """Gives a model its weights, and returns their names, which rename may change, with their shapes."""
    state = {k: values(rename(k), list(v.shape)) for k, v in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    model.eval()
    return {rename(k): list(v.shape) for k, v in state.items()}


def write(file, cases):
    file.parent.mkdir(exist_ok=True)
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names), names
    raw = json.dumps(cases, sort_keys=True, separators=(",", ":")).encode()
    with open(file, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(raw)
    print(len(cases), "cases,", file.stat().st_size, "bytes:", file.relative_to(ROOT))


# ---- unet ----

CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
SMALL = dict(
    block_out_channels=[8, 16],
    layers_per_block=1,
    cross_attention_dim=12,
    attention_head_dim=2,
    norm_num_groups=4,
    down_block_types=[CROSS_DOWN, DOWN],
    up_block_types=[UP, CROSS_UP],
)
ALL_CROSS = dict(down_block_types=[CROSS_DOWN] * 2, up_block_types=[CROSS_UP] * 2)
ADDED = dict(
    addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 10
)

UNETS = {
    "one layer a block": {},
    "attention in the second block alone": dict(down_block_types=[DOWN, CROSS_DOWN], up_block_types=[CROSS_UP, UP]),
    "attention in each block": ALL_CROSS,
    "attention in the middle alone": dict(down_block_types=[DOWN, DOWN], up_block_types=[UP, UP]),
    "no attention": dict(down_block_types=[DOWN, DOWN], up_block_types=[UP, UP], mid_block_type="UNetMidBlock2D"),
    "attention on the way down alone": dict(down_block_types=[CROSS_DOWN] * 2, up_block_types=[UP, UP]),
    "two layers a block": dict(layers_per_block=2),
    "a list of layers_per_block": dict(layers_per_block=[1, 2], **ALL_CROSS),
    "one block": dict(block_out_channels=[8], down_block_types=[CROSS_DOWN], up_block_types=[CROSS_UP]),
    "four blocks": dict(
        block_out_channels=[4, 8, 8, 12],
        down_block_types=[CROSS_DOWN] * 3 + [DOWN],
        up_block_types=[UP] + [CROSS_UP] * 3,
    ),
    "heads by block": dict(attention_head_dim=[1, 4], **ALL_CROSS),
    "one head": dict(attention_head_dim=1),
    "a head a channel": dict(attention_head_dim=[8, 16], **ALL_CROSS),
    "linear projection": dict(use_linear_projection=True, **ALL_CROSS),
    "two transformer layers": dict(transformer_layers_per_block=2),
    "transformer layers by block": dict(transformer_layers_per_block=[1, 2], **ALL_CROSS),
    "transformer layers by attention": dict(
        layers_per_block=[1, 2],
        transformer_layers_per_block=[[1], [2, 1]],
        reverse_transformer_layers_per_block=[[1, 2, 1], [2, 1]],
        **ALL_CROSS,
    ),
    "no middle": dict(mid_block_type=None),
    "a plain middle": dict(mid_block_type="UNetMidBlock2D"),
    "text_time": dict(
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2],
        attention_head_dim=[2, 4],
        down_block_types=[DOWN, CROSS_DOWN],
        up_block_types=[CROSS_UP, UP],
        **ADDED,
    ),
    "text_time without a middle": dict(mid_block_type=None, **ADDED),
    "upcast_attention": dict(upcast_attention=True),
    "cosine last": dict(flip_sin_to_cos=False),
    "freq_shift": dict(freq_shift=1),
    "norm_eps": dict(norm_eps=1e-2),
    "one group": dict(norm_num_groups=1),
    "a group a channel": dict(block_out_channels=[8, 8], norm_num_groups=8),
    "time_embedding_act_fn": dict(time_embedding_act_fn="silu"),
    "act_fn swish": dict(act_fn="swish"),
    "nine channels in": dict(in_channels=9),
    "five channels out": dict(out_channels=5),
    "two channels wide": dict(
        block_out_channels=[2, 2], norm_num_groups=1, attention_head_dim=1, cross_attention_dim=1
    ),
    "values that say the default": dict(
        only_cross_attention=[False, False], cross_attention_dim=[12, 12], dropout=0.1, mid_block_scale_factor=1.0
    ),
}
SIZES = {
    "one layer a block": [(2, 6, 6, 5), (1, 7, 5, 1), (2, 2, 9, 77)],
    "four blocks": [(2, 13, 9, 3)],
    "one block": [(1, 1, 3, 2)],
}


def unet_inputs(model, at, b, h, w, s, timesteps=(981.0, 12.5)):
    """Inputs and the arguments that a UNet is called with."""
    cfg, added = model.config, None
    cross = cfg.cross_attention_dim
    sample = at.randn("sample", b, cfg.in_channels, h, w)
    context = at.randn("encoder_hidden_states", b, s, cross if isinstance(cross, int) else cross[0])
    timestep = at.given("timestep", torch.tensor(timesteps[:b]))
    if cfg.addition_embed_type == "text_time":
        ids = torch.tensor([[64.0, 48, 0, 8, 64, 48], [40, 56, 4, 0, 40, 56]])[:b]
        added = dict(text_embeds=at.randn("text_embeds", b, 10), time_ids=at.given("time_ids", ids))
    return dict(sample=sample, timestep=timestep, encoder_hidden_states=context, added_cond_kwargs=added)


def unets():
    cases = []
    for name, changes in UNETS.items():
        config = {**SMALL, **changes}
        model = UNet2DConditionModel(**config)
        shapes = fill(model)
        for b, h, w, s in SIZES.get(name, [(2, 6, 6, 5)]):
            at = Inputs()
            out = model(**unet_inputs(model, at, b, h, w, s)).sample
            cases.append(
                dict(
                    name=f"{name}, {b}x{h}x{w}, {s} tokens",
                    config=config,
                    weights=shapes,
                    inputs=at.json,
                    outputs=dict(sample=stored(out)),
                )
            )
    write(ROOT / "unet/testdata/models.json.gz", cases)


def residual_shapes(model, kw):
    """What a ControlNet and a T2I-Adapter add to: shapes of the way down, of the middle, and of each block."""
    h, w = kw["sample"].shape[2:]
    control = ControlNetModel.from_unet(model, conditioning_embedding_out_channels=(4, 4))
    down, mid = control(**kw, controlnet_cond=torch.zeros(1, 3, 2 * h, 2 * w), return_dict=False)
    inner, hooks = [], []
    for block in model.down_blocks:
        # A block with attention takes it before its downsampler, another after.
        at = block.attentions[-1] if getattr(block, "has_cross_attention", False) else block
        hooks.append(at.register_forward_hook(lambda m, a, out: inner.append(list(out[0].shape))))
    model(**kw)
    for hook in hooks:
        hook.remove()
    return [list(x.shape) for x in down], list(mid.shape), inner


def identity(model, kw, parts):
    """Perturbed-attention guidance: the half of a batch for which the map of some self-attentions is the identity."""
    double = {k: torch.cat([v, v]) for k, v in kw.items() if isinstance(v, torch.Tensor)}
    if kw["added_cond_kwargs"]:
        double["added_cond_kwargs"] = {k: torch.cat([v, v]) for k, v in kw["added_cond_kwargs"].items()}
    model.set_attn_processor(
        {
            k: PAGIdentitySelfAttnProcessor2_0() if k.removesuffix(".processor") in parts else AttnProcessor2_0()
            for k in model.attn_processors
        }
    )
    out = model(**double).sample.chunk(2)[1]
    model.set_attn_processor(AttnProcessor2_0())
    return out


SEAMS = {
    "attention in the first block": ({}, (2, 6, 6, 5)),
    "attention in the second block, odd sizes": (
        dict(down_block_types=[DOWN, CROSS_DOWN], up_block_types=[CROSS_UP, UP], layers_per_block=2),
        (1, 7, 5, 3),
    ),
    "text_time": (
        {
            **UNETS["text_time"],
            "block_out_channels": [4, 8, 8],
            "attention_head_dim": 2,
            "transformer_layers_per_block": 1,
            "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN],
            "up_block_types": [CROSS_UP, CROSS_UP, UP],
        },
        (2, 6, 10, 5),
    ),
}


def seams():
    cases = []
    for name, (changes, size) in SEAMS.items():
        config = {**SMALL, **changes}
        model = UNet2DConditionModel(**config)
        shapes = fill(model)
        at = Inputs()
        kw = unet_inputs(model, at, *size)
        down, mid, inner = residual_shapes(model, kw)
        down = [at.randn(f"down_block_additional_residuals.{i}", *s) for i, s in enumerate(down)]
        mid = at.randn("mid_block_additional_residual", *mid)
        inner = [
            at.randn(f"down_intrablock_additional_residuals.{i}", *s) for i, s in enumerate(inner + [list(mid.shape)])
        ]
        control = dict(down_block_additional_residuals=down, mid_block_additional_residual=mid)
        adapter = lambda n: dict(down_intrablock_additional_residuals=[x.clone() for x in inner[:n]])
        blocks = len(model.down_blocks)
        selves = [k.removesuffix(".processor") for k in model.attn_processors if "attn1" in k]
        out = {
            "plain": model(**kw),
            "controlnet": model(**kw, **control),
            "adapter of one block": model(**kw, **adapter(1)),
            "adapter": model(**kw, **adapter(blocks)),
            "adapter with a middle": model(**kw, **adapter(blocks + 1)),
            "both": model(**kw, **control, **adapter(blocks)),
        }
        out = {k: stored(v.sample) for k, v in out.items()}
        out["identity mid_block"] = stored(identity(model, kw, [k for k in selves if k.startswith("mid_block")]))
        out["identity"] = stored(identity(model, kw, selves))
        cases.append(dict(name=name, config=config, weights=shapes, inputs=at.json, outputs=out))
    cases.append(ip_adapter())
    write(ROOT / "unet/testdata/seams.json.gz", cases)


def ip_adapter():
    """A second pair of keys and values in each cross-attention, of an image's tokens."""
    config = {**SMALL, **ALL_CROSS}
    model = UNet2DConditionModel(**config)
    width = {k: model.get_submodule(k.removesuffix(".processor")).to_q.out_features for k in model.attn_processors}
    model.set_attn_processor(
        {
            k: AttnProcessor2_0() if "attn1" in k else IPAdapterAttnProcessor2_0(n, 12, num_tokens=(3,), scale=[1.0])
            for k, n in width.items()
        }
    )
    shapes = fill(model)
    at = Inputs()
    kw = unet_inputs(model, at, 2, 6, 6, 5)
    image = at.randn("ip_hidden_states", 2, 1, 3, 12)
    kw["encoder_hidden_states"] = (kw["encoder_hidden_states"], [image])
    return dict(
        name="image prompt",
        config=config,
        weights=shapes,
        inputs=at.json,
        outputs={"image prompt": stored(model(**kw).sample)},
    )


# ---- vae ----

VAE = dict(block_out_channels=[8, 8], layers_per_block=1, norm_num_groups=4, sample_size=8)
VAES = {
    "two blocks": {},
    "one block": dict(block_out_channels=[8]),
    "three blocks": dict(block_out_channels=[4, 8, 12]),
    "five blocks": dict(block_out_channels=[4, 4, 4, 4, 8]),
    "two layers a block": dict(layers_per_block=2),
    "one group": dict(norm_num_groups=1),
    "a group a channel": dict(norm_num_groups=8),
    "sixteen channels of latents": dict(latent_channels=16),
    "no quant_conv": dict(use_quant_conv=False),
    "no post_quant_conv": dict(use_post_quant_conv=False),
    "no attention": dict(mid_block_add_attention=False),
    "grey": dict(in_channels=1, out_channels=1),
    "act_fn swish": dict(act_fn="swish"),
    "force_upcast false": dict(force_upcast=False, shift_factor=0.5),
    "two channels wide": dict(block_out_channels=[2, 2], norm_num_groups=1),
    "old names of the attention": {},
}
TILES = [
    (8, 7, 6),
    (8, 4, 4),
    (8, 12, 3),
    (12, 9, 8),
    (10, 5, 7),
    (16, 5, 9),
]  # sample_size, height and width of the latents


def old(name):
    for new, was in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{was}.")
    return name


def vaes():
    cases = []
    for name, changes in VAES.items():
        n = len(changes.get("block_out_channels", VAE["block_out_channels"]))
        config = {
            **VAE,
            **changes,
            "down_block_types": ["DownEncoderBlock2D"] * n,
            "up_block_types": ["UpDecoderBlock2D"] * n,
        }
        model = AutoencoderKL(**config)
        shapes = fill(model, old if name.startswith("old") else lambda name: name)
        at, scale = Inputs(), 2 ** (n - 1)
        out = dict(decode=model.decode(at.randn("latents", 2, model.config.latent_channels, 3, 2)).sample)
        # Sides that are no multiple of the scale are rounded down, a convolution at a time.
        out["encode"] = model.encode(
            at.randn("pixels", 1, model.config.in_channels, 4 * scale + scale // 2, 3 * scale)
        ).latent_dist.parameters
        cases.append(
            dict(
                name=name, config=config, weights=shapes, inputs=at.json, outputs={k: stored(v) for k, v in out.items()}
            )
        )
    for side, h, w in TILES:
        config = {
            **VAE,
            "sample_size": side,
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "up_block_types": ["UpDecoderBlock2D"] * 2,
        }
        model = AutoencoderKL(**config)
        shapes, at = fill(model), Inputs()
        # Where a quarter of a tile is no whole number of latents, the picture is larger than its latents; ours is cut.
        out = model.tiled_decode(at.randn("latents", 1, 4, h, w)).sample[:, :, : 2 * h, : 2 * w]
        cases.append(
            dict(
                name=f"tiles of {side} pixels, {h}x{w}",
                config=config,
                weights=shapes,
                inputs=at.json,
                outputs=dict(tiled=stored(out)),
            )
        )
    write(ROOT / "vae/testdata/models.json.gz", cases)


# ---- textenc ----

TEXT = dict(
    vocab_size=20,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=9,
    projection_dim=6,
    hidden_act="quick_gelu",
    eos_token_id=19,
    bos_token_id=18,
    pad_token_id=19,
)
IDS = torch.tensor([[18, 3, 7, 1, 19, 19, 19], [18, 19, 19, 19, 19, 19, 19], [18, 2, 4, 6, 8, 10, 19]])
TEXTS = {
    "two layers": {},
    "gelu": dict(hidden_act="gelu"),
    "one layer": dict(num_hidden_layers=1),
    "three layers": dict(num_hidden_layers=3),
    "one head": dict(num_attention_heads=1),
    "a head a channel": dict(num_attention_heads=8),
    "layer_norm_eps": dict(layer_norm_eps=1e-2),
    "one channel": dict(hidden_size=1, num_attention_heads=1),
    "as long as the positions": dict(max_position_embeddings=7),
    "eos_token_id 2": dict(eos_token_id=2),
    "another eos_token_id": dict(eos_token_id=7),
    "no text ends": dict(eos_token_id=5),
    "a config of all of CLIP": {},
}


def texts():
    cases = []
    for name, changes in TEXTS.items():
        for cls in (CLIPTextModel, CLIPTextModelWithProjection):
            config = {**TEXT, **changes}
            model = cls(CLIPTextConfig(**config))
            shapes, at = fill(model), Inputs()
            r = model(at.given("input_ids", IDS), output_hidden_states=True)
            out = {f"hidden_states.{i}": h for i, h in enumerate(r.hidden_states)}
            out["last_hidden_state"] = r.last_hidden_state
            out["pooled"] = r.text_embeds if cls is CLIPTextModelWithProjection else r.pooler_output
            # What diffusers makes of clip_skip: an earlier state under the final norm.
            for skip in range(config["num_hidden_layers"] + 1):
                out[f"normed.{skip}"] = model.text_model.final_layer_norm(r.hidden_states[-1 - skip])
            if name == "a config of all of CLIP":
                config = {"model_type": "clip", "projection_dim": 3, "text_config": config}
            title = name + (", projection" if cls is CLIPTextModelWithProjection else "")
            cases.append(
                dict(
                    name=title,
                    config=config,
                    weights=shapes,
                    inputs=at.json,
                    outputs={k: stored(v) for k, v in out.items()},
                )
            )
    write(ROOT / "textenc/testdata/models.json.gz", cases)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    unets()
    seams()
    vaes()
    texts()


if __name__ == "__main__":
    main()
