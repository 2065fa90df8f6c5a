"""Makes the golden files of attention, convolutions and pools. make_golden.py does it too; by itself:

    .venv/bin/python internal/golden/make_layers.py

layers.json has a case per line, layers.safetensors its result. Arguments are of a case's shapes, channels last, and
come from torch.randn: argument i of case n has the seed 100 n + i. Of a bias, numbers below -0.8 are -inf.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import T5Config
from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward
from transformers.models.t5.modeling_t5 import T5Attention

HERE = pathlib.Path(__file__).parent


def attention(reference, *shapes, **kw):
    return dict(Op="attention", Reference=reference, In=[list(s) for s in shapes], **kw)


def conv(x, w, **kw):
    return dict(Op="conv", In=[x, w] + ([[w[0]]] if kw.pop("bias", True) else []), **kw)


def pool(op, x, kernel, **kw):
    return dict(Op=op, In=[x], Kernel=kernel, **kw)


CASES = [
    # torch's function, and what transformers does by hand for models with grouped queries.
    attention("sdpa", (2, 9, 16), (2, 5, 16), (2, 5, 16), Heads=2),
    attention("sdpa", (2, 9, 48), (2, 9, 16), (2, 9, 16), Heads=6, KVHeads=2, Causal=True),
    attention("sdpa", (1, 7, 32), (1, 11, 8), (1, 11, 8), Heads=4, KVHeads=1, Scale=0.7),
    attention("sdpa", (2, 7, 16), (2, 20, 16), (2, 20, 16), (2, 2, 7, 20), Heads=2, Bias=True),
    attention("sdpa", (3, 6, 16), (3, 4, 16), (3, 4, 16), (3, 1, 1, 4), Heads=2, Bias=True),
    attention("sdpa", (2, 6, 16), (2, 9, 16), (2, 9, 16), (1, 1, 6, 9), Heads=2, Bias=True, Scale=0.1),
    attention("sdpa", (2, 6, 16), (2, 9, 16), (2, 9, 16), (2, 6, 9), Heads=2, Bias=True),
    attention("sdpa", (4, 5, 16), (4, 6, 8), (4, 6, 8), (4,), Heads=2, KVHeads=1, Lengths=[6, 0, 1, 4]),
    attention("sdpa", (3, 8, 32), (3, 8, 16), (3, 8, 16), (1, 4, 8, 8), (3,), Heads=4, KVHeads=2, Scale=0.3,
              Causal=True, Bias=True, Lengths=[8, 3, 5]),
    attention("qwen3", (2, 10, 256), (2, 10, 128), (2, 10, 128), (2,), Heads=2, KVHeads=1, Causal=True,
              Lengths=[10, 6]),
    attention("t5", (2, 12, 24), (2, 12, 24), (2, 12, 24), (3, 12, 12), Heads=3, Scale=1, Bias=True),
    conv([2, 7, 6, 4], [6, 4, 3, 3], Pad=[1, 1, 1, 1]),
    conv([1, 9, 8, 3], [5, 3, 5, 2], Stride=[2, 3], Pad=[2, 1, 1, 0], bias=False),
    conv([1, 9, 8, 4], [6, 4, 3, 3], Dilation=[2, 3], Pad=[2, 3, 2, 3]),
    conv([2, 5, 6, 8], [12, 2, 3, 3], Groups=4, Stride=[2, 2], Pad=[1, 1, 1, 1]),
    conv([1, 6, 7, 10], [10, 1, 7, 7], Groups=10, Pad=[3, 3, 3, 3]),
    conv([1, 6, 7, 5], [10, 1, 3, 3], Groups=5, bias=False),
    conv([1, 14, 14, 3], [20, 3, 14, 14], Stride=[14, 14], bias=False),
    conv([2, 13, 6], [7, 6, 3], Pad=[0, 1, 0, 1]),
    conv([1, 25, 4], [4, 4, 7], Dilation=[1, 3], Pad=[0, 9, 0, 9]),
    conv([1, 16, 6], [8, 6, 4], Stride=[1, 2], Pad=[0, 1, 0, 1], bias=False),
    conv([1, 12, 6], [6, 1, 4], Groups=6, Pad=[0, 3, 0, 0]),
    pool("max", [2, 7, 6, 3], [3, 3], Stride=[2, 2], Pad=[1, 1, 1, 1]),
    pool("max", [1, 7, 8, 3], [2, 3], Dilation=[3, 2], Pad=[1, 1, 1, 1], Stride=[1, 2]),
    pool("max", [1, 7, 6, 3], [2, 2]),
    pool("max", [2, 11, 4], [1, 3], Stride=[1, 2], Pad=[0, 1, 0, 1]),
    pool("average", [2, 7, 6, 3], [3, 3], Stride=[2, 2], Pad=[1, 1, 1, 1]),
    pool("average", [1, 7, 6, 3], [2, 3], Stride=[1, 1], Pad=[1, 0, 1, 0]),
    pool("average", [1, 7, 6, 3], [2, 2]),
    pool("average", [2, 11, 4], [1, 4], Stride=[1, 3], Pad=[0, 2, 0, 2]),
    pool("adaptive", [2, 7, 10, 3], [3, 4]),
    pool("adaptive", [1, 3, 5, 3], [5, 7]),
    pool("adaptive", [2, 9, 8, 5], [1, 1]),
    pool("adaptive", [2, 10, 4], [1, 3]),
]


def arguments(n, case):
    """But for the lengths of attention, which stand in the case."""
    shapes = case["In"][:-1] if "Lengths" in case else case["In"]
    args = [torch.randn(*s, generator=torch.Generator().manual_seed(100 * n + i)) for i, s in enumerate(shapes)]
    if case.get("Bias"):
        args[3] = args[3].masked_fill(args[3] < -0.8, -torch.inf)
    return args


def split(x, heads):
    """[B S Heads*D] as [B Heads S D]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(case, q, k, v, bias=None):
    if case["Reference"] == "t5":
        return t5(case, q)
    heads, kv, (b, sq, _), skv = case["Heads"], case.get("KVHeads", case["Heads"]), q.shape, k.shape[1]
    q, k, v = split(q, heads), split(k, kv), split(v, kv)
    mask = torch.zeros(b, 1, sq, skv) if bias is None else bias.expand(b, heads, sq, skv).clone()
    if "Lengths" in case:
        mask = mask.masked_fill(torch.arange(skv) >= torch.tensor(case["Lengths"])[:, None, None, None], -torch.inf)
    if case.get("Causal"):
        mask = mask.masked_fill(torch.ones(sq, skv).tril() == 0, -torch.inf)
    scale = case.get("Scale", q.shape[-1] ** -0.5)
    if case["Reference"] == "qwen3":
        module = torch.nn.Module()
        module.num_key_value_groups = heads // kv
        return eager_attention_forward(module.eval(), q, k, v, mask, scale)[0].flatten(2)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).flatten(2)


def t5(case, x):
    """T5's layer with projections that change nothing, and so the attention of x with itself and the layer's bias, which
    is stored in place of the argument."""
    heads, width = case["Heads"], x.shape[-1]
    torch.manual_seed(5)
    cfg = T5Config(d_model=width, d_kv=width // heads, num_heads=heads, relative_attention_num_buckets=8,
                   relative_attention_max_distance=16)
    layer = T5Attention(cfg, has_relative_attention_bias=True).eval()
    for name in "qkvo":
        getattr(layer, name).weight.copy_(torch.eye(width))
    torch.nn.init.normal_(layer.relative_attention_bias.weight)
    out = layer(x, cache_position=torch.arange(x.shape[1]))
    return out[0], layer.compute_bias(x.shape[1], x.shape[1])[0]


def convolve(case, x, w, bias=None):
    one = x.dim() == 3
    top, left, bottom, right = case.get("Pad", [0] * 4)
    x = F.pad(x.movedim(-1, 1), (left, right) if one else (left, right, top, bottom))
    kw = {key.lower(): case.get(key, [1, 1])[1 if one else 0:] for key in ("Stride", "Dilation")}
    return (F.conv1d if one else F.conv2d)(x, w, bias, groups=case.get("Groups", 1), **kw).movedim(1, -1)


def pooled(case, x):
    one = x.dim() == 3
    x, drop = x.movedim(-1, 1), 1 if one else 0
    if case["Op"] == "adaptive":
        out = (F.adaptive_avg_pool1d if one else F.adaptive_avg_pool2d)(x, case["Kernel"][drop:])
        return out.movedim(1, -1)
    kw = dict(kernel_size=case["Kernel"][drop:], padding=case.get("Pad", [0, 0])[drop:2])
    if "Stride" in case:
        kw["stride"] = case["Stride"][drop:]
    if case["Op"] == "max":
        out = (F.max_pool1d if one else F.max_pool2d)(x, dilation=case.get("Dilation", [1, 1])[drop:], **kw)
    else:
        out = (F.avg_pool1d if one else F.avg_pool2d)(x, **kw)
    return out.movedim(1, -1)


@torch.no_grad()
def write(out):
    tensors = {}
    functions = dict(attention=attend, conv=convolve)
    for n, case in enumerate(CASES):
        result = functions.get(case["Op"], pooled)(case, *arguments(n, case))
        if isinstance(result, tuple):
            result, tensors[f"{n}.bias"] = result
        tensors[f"{n}.result"] = result
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "layers.safetensors")
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
    (out / "layers.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(HERE / "testdata")
