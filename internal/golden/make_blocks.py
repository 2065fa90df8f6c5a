"""Makes blocks.safetensors: what diffusers, transformers and torch give for the ops of transformer blocks.
make_golden.py does it too; by itself:

    .venv/bin/python internal/golden/make_blocks.py

Inputs come from torch.randn with seeds that the test repeats, so that only results and the tables of angles are stored.
Modules whose projections are not in question have the unit matrix in their place.
"""

import pathlib
import sys

sys.modules["ftfy"] = None

import torch
from diffusers.models import activations, embeddings, normalization
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from safetensors.torch import save_file
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.phi.modeling_phi import PhiConfig, PhiRotaryEmbedding
from transformers.models.phi import modeling_phi
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.t5.modeling_t5 import T5Config, T5DenseGatedActDense

B, S, HEADS, D = 2, 7, 3, 16
C = HEADS * D
NAMES = ["silu", "swish", "gelu", "gelu_python", "quick_gelu", "relu", "tanh",
         "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"]


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(module, n):
    module.weight = nn.Parameter(torch.eye(n))


def heads(x, width=D):
    """[B S H*D] as [B H S D], which is how rotations take it."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def flat(x):
    return x.transpose(1, 2).flatten(2)


def arithmetic(x, y):
    image, every = randn(8, B, C), randn(9, C)
    return {"mul": x * y, "mul.image": x * image[:, None], "mul.all": x * every,
            "sub": x - y, "sub.image": x - image[:, None], "sub.all": x - every,
            "slice": x[:, 2:5], "chunk": x.chunk(3, -1)[1]}


def norms(x):
    whole, each = normalization.RMSNorm(C, eps=1e-6), normalization.RMSNorm(D, eps=1e-5)
    whole.weight.copy_(randn(2, C))
    each.weight.copy_(randn(3, D))
    bare = normalization.RMSNorm(C, eps=1e-6, elementwise_affine=False)
    qwen = modeling_qwen3.Qwen3RMSNorm(D, eps=1e-5)
    qwen.weight.copy_(each.weight)
    of_heads = each(x.unflatten(-1, (HEADS, D))).flatten(2)
    assert torch.equal(of_heads, qwen(x.unflatten(-1, (HEADS, D))).flatten(2))
    return {"layer_norm.no_weight": nn.LayerNorm(C, eps=1e-6, elementwise_affine=False)(x),
            "rms_norm": whole(x), "rms_norm.no_weight": bare(x), "rms_norm.heads": of_heads}


def rotations(x):
    at = torch.tensor([0.0, 1, 2, 5, 11, 100, 4000])
    cos, sin = embeddings.get_1d_rotary_pos_embed(D, at, theta=10000, use_real=True, repeat_interleave_real=True)
    neighbours = embeddings.apply_rotary_emb(heads(x), (cos, sin), use_real_unbind_dim=-1)
    numbers = embeddings.get_1d_rotary_pos_embed(D, at, theta=10000, use_real=False)  # complex, as Lumina and Z-Image
    lumina = embeddings.apply_rotary_emb(x.unflatten(-1, (HEADS, D)), numbers[None], use_real=False).transpose(1, 2)
    assert torch.allclose(neighbours, lumina, atol=1e-6)
    cos2, sin2 = embeddings.get_1d_rotary_pos_embed(D, at, theta=10000, use_real=True, repeat_interleave_real=False)
    halves = embeddings.apply_rotary_emb(heads(x), (cos2, sin2), use_real_unbind_dim=-2)
    qwen, _ = modeling_qwen3.apply_rotary_pos_emb(heads(x), heads(x), cos2[None], sin2[None])
    assert torch.equal(halves, qwen)

    width = D // 2  # Phi turns a part of each head
    phi = PhiRotaryEmbedding(PhiConfig(hidden_size=C, num_attention_heads=HEADS, partial_rotary_factor=0.5))
    pcos, psin = phi(x, at[None].long())
    turned, _ = modeling_phi.apply_rotary_pos_emb(heads(x)[..., :width], heads(x)[..., :width], pcos, psin)
    part = torch.cat([turned, heads(x)[..., width:]], -1)
    return {"cos": cos[:, ::2], "sin": sin[:, ::2],
            "cos.part": pcos[0, :, : width // 2], "sin.part": psin[0, :, : width // 2],
            "rotary": flat(neighbours), "rotary.halves": flat(halves), "rotary.part": flat(part)}


def gates(x):
    swiglu = activations.SwiGLU(C, C // 2, bias=False)
    unit(swiglu.proj, C)
    mlp = modeling_qwen3.Qwen3MLP(modeling_qwen3.Qwen3Config(hidden_size=C, intermediate_size=C))
    unit(mlp.gate_proj, C), unit(mlp.down_proj, C)
    mlp.up_proj.weight.copy_(torch.eye(C).flip(0))  # the value is x from behind
    t5 = T5DenseGatedActDense(T5Config(d_model=C, d_ff=C, feed_forward_proj="gated-gelu")).eval()
    unit(t5.wi_0, C), unit(t5.wo, C)
    t5.wi_1.weight.copy_(torch.eye(C).flip(0))
    first, second = x.chunk(2, -1)  # FLUX.2, which this diffusers does not have yet: the SiLU of the first
    return {"swiglu": swiglu(x), "swiglu.gate_first": nn.functional.silu(first) * second,
            "gated.silu": mlp(x), "gated.gelu_new": t5(x)}


def bare(module):
    """Takes everything out of an adaptive norm but its use of the modulation's parts."""
    module.silu = module.linear = module.norm = nn.Identity()
    return module


def modulations(x, y):
    zero, last = bare(normalization.AdaLayerNormZero(C)), bare(normalization.AdaLayerNormContinuous(C, C))
    lumina = bare(normalization.LuminaRMSNormZero(C, 1e-6, True))
    out, gate, shift, scale, gate2 = zero(x, emb=randn(4, B, 6 * C))
    out2, lgate, lscale, _ = lumina(x, randn(5, B, 4 * C))
    assert torch.equal(lscale, randn(5, B, 4 * C).chunk(4, 1)[2])
    return {"modulate.zero": out, "modulate.zero.mlp": x * (1 + scale[:, None]) + shift[:, None],
            "modulate.continuous": last(x, randn(6, B, 2 * C)), "modulate.lumina": out2,
            "add_gated": x + gate.unsqueeze(1) * y, "add_gated.mlp": x + gate2.unsqueeze(1) * y,
            "add_gated.tanh": x + lgate.unsqueeze(1).tanh() * y}


@torch.no_grad()
def write(out):
    x, y = randn(0, B, S, C), randn(1, B, S, C)
    image = randn(7, B, 4, 6, 3)  # channels last, as the test has it
    packed = FluxPipeline._pack_latents(image.permute(0, 3, 1, 2), B, 3, 4, 6)
    results = {**arithmetic(x, y), **norms(x), **rotations(x), **gates(x), **modulations(x, y), "patches": packed,
               **{"act." + name: ACT2FN[name](3 * x) for name in NAMES}}
    save_file({k: v.detach().contiguous() for k, v in results.items()}, out / "blocks.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(pathlib.Path(__file__).parent / "testdata")
