"""Makes matrix.json.gz: model folders whose configs are odd in one way each, and the latents that diffusers makes of them.

    python internal/golden/make_matrix.py [part of the names of the folders that are made anew]

Each key of each config class is tried absent, null, at its default and at other values; so are files that are named,
stored or divided in other ways, and configs of old versions. Weights are not kept: they follow from their names (see
values), and the Go test makes them again. What is kept of a folder is its small files, the names and shapes of its
weights, and what diffusers said: latents and picture, or the exception.
"""

import base64
import copy
import gzip
import hashlib
import inspect
import json
import pathlib
import shutil
import sys
import tempfile
import warnings
import zlib

sys.modules["ftfy"] = None  # the tokenizer does not depend on whether it is installed
warnings.filterwarnings("ignore")

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

HERE = pathlib.Path(__file__).parent
FILE = HERE / "testdata/matrix.json.gz"
ABSENT = object()
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


# ---- the three good folders ----

TEXT = dict(vocab_size=576, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77,
            projection_dim=16, hidden_act="quick_gelu", layer_norm_eps=1e-5, bos_token_id=574, eos_token_id=575, pad_token_id=575)
UNET = dict(_diffusers_version="0.34.0", sample_size=8, in_channels=4, out_channels=4, block_out_channels=[8, 16], layers_per_block=1,
            cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"], up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])
VAE = dict(_diffusers_version="0.34.0", block_out_channels=[8, 8], layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
           scaling_factor=0.18215, down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2)
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def base(family):
    """The JSON files of a folder, by path, with the configs that decide about weights under their component's name."""
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.34.0", "requires_safety_checker": False,
             "safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None],
             "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    scheduler = dict(_class_name="DDIMScheduler", _diffusers_version="0.34.0", **NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    f = {"model_index.json": index, "scheduler/scheduler_config.json": scheduler, "text_encoder/config.json": dict(TEXT, model_type="clip_text_model"),
         "unet/config.json": dict(_class_name="UNet2DConditionModel", **UNET), "vae/config.json": dict(_class_name="AutoencoderKL", **VAE)}
    if family == "sd2":
        scheduler.update(prediction_type="v_prediction")
        f["unet/config.json"].update(attention_head_dim=[2, 4], use_linear_projection=True)
        f["text_encoder/config.json"].update(hidden_act="gelu")
    if family == "sdxl":
        for k in ("safety_checker", "requires_safety_checker"):
            del index[k]
        index.update(_class_name="StableDiffusionXLPipeline", force_zeros_for_empty_prompt=True, scheduler=["diffusers", "EulerDiscreteScheduler"],
                     text_encoder_2=["transformers", "CLIPTextModelWithProjection"], tokenizer_2=["transformers", "CLIPTokenizer"])
        f["scheduler/scheduler_config.json"] = dict(_class_name="EulerDiscreteScheduler", **NOISE, timestep_spacing="leading", steps_offset=1)
        f["text_encoder_2/config.json"] = dict(TEXT, model_type="clip_text_model", hidden_act="gelu", hidden_size=24, num_attention_heads=3)
        f["unet/config.json"].update(
            attention_head_dim=[2, 4], use_linear_projection=True, cross_attention_dim=40, transformer_layers_per_block=[1, 2],
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"])
    return f


# ---- weights ----

def values(name, shape):
    """The values of a weight, which keep activations about as large as they are. The Go test has the same rule."""
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).contiguous()
    n = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if "embedding" in name and len(shape) == 2 and "time" not in name and "add" not in name:
        return 0.5 * n
    if len(shape) > 1:
        return n / float(np.float32(np.prod(shape[1:]) ** 0.5))
    return 0.1 * n + (1 if name.endswith("weight") else 0)


def shapes(component, cls, config):
    """Names and shapes of the weights that the reference has for a config."""
    config = {k: v for k, v in config.items() if not k.startswith("_")}
    with torch.device("meta"):
        if component.startswith("text_encoder"):
            config = config.get("text_config", config)
            model = {"CLIPTextModel": CLIPTextModel}.get(cls, CLIPTextModelWithProjection)(CLIPTextConfig(**config))
        else:
            model = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[component](**config)
    return {k: list(v.shape) for k, v in model.state_dict().items()}


class Folder:
    """A model folder under construction."""

    def __init__(self, family):
        self.family, self.json = family, base(family)
        self.text = {}  # other small files, and JSON that json.dumps would not write
        self.weights = {}  # path: (type, {name: shape})
        self.arguments = {}
        self.variant = None
        self.scheduler = None
        golden = HERE / "testdata" / "sd1/tokenizer"
        for tok in ["tokenizer", "tokenizer_2"][: 1 + (family == "sdxl")]:
            for f in golden.iterdir():
                self.text[f"{tok}/{f.name}"] = f.read_text()

    def components(self):
        return [c for c in ("text_encoder", "text_encoder_2", "unet", "vae") if f"{c}/config.json" in self.json]

    def add_weights(self, dtype="F32"):
        for c in self.components():
            cls = (self.json["model_index.json"][c][1] or "none").removeprefix("Flax")
            try:
                s = shapes(c, cls, self.json[f"{c}/config.json"])
            except Exception:  # the reference does not build it; it will say so again
                s = shapes(c, cls, base(self.family)[f"{c}/config.json"])
            file = "model.safetensors" if c.startswith("text") else "diffusion_pytorch_model.safetensors"
            self.weights[f"{c}/{file}"] = (dtype, s)

    def write(self, at):
        for path, content in {**{k: json.dumps(v, indent=1) for k, v in self.json.items()}, **self.text}.items():
            if content is None:
                continue
            (at / path).parent.mkdir(parents=True, exist_ok=True)
            (at / path).write_text(content)
        for path, (dtype, tensors) in self.weights.items():
            (at / path).parent.mkdir(parents=True, exist_ok=True)
            data = {}
            for k, s in tensors.items():
                v = values(k, s)
                data[k] = v if v.dtype == torch.int64 else v.to(torch.uint8 if k.startswith("unused") else TYPES[dtype])
            save_file(data, at / path, metadata={"format": "pt"})


CASES = []


def case(name, family, *edits):
    """A folder that some edits, functions of it, make odd."""
    CASES.append((f"{family}: {name}", family, edits))


def build(family, edits):
    f, built = Folder(family), False
    for e in edits:
        if getattr(e, "after", False) and not built:
            f.add_weights()
            built = True
        e(f)
    if not built:
        f.add_weights()
    return f


def put(file, after=False, **keys):
    """Sets keys of a JSON file, or takes them out. after: when the weights are there, which then know nothing of it."""
    def edit(f):
        for k, v in keys.items():
            if v is ABSENT:
                f.json[file].pop(k, None)
            else:
                f.json[file][k] = copy.deepcopy(v)
    edit.after = after
    return edit


def text(file, content):
    """Another content of a file, None for no file."""
    def edit(f):
        f.json.pop(file, None)
        f.text[file] = content
    edit.after = True
    return edit


def weights(change):
    def edit(f):
        change(f.weights)
    edit.after = True
    return edit


def arguments(**kw):
    return lambda f: f.arguments.update(kw)


def show(v):
    text = "absent" if v is ABSENT else json.dumps(v)
    return text if len(text) < 60 else text[:40] + "..."


# ---- what is tried ----

def defaults(cls):
    return {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items()
            if k not in ("self", "kwargs") and p.default is not inspect.Parameter.empty}


# Values beside absence, null and the default, by key.
UNET_VALUES = dict(
    sample_size=[16, [8, 8], [8, 16], 4], center_input_sample=[True], flip_sin_to_cos=[False], freq_shift=[1, 0.5], mid_block_type=[
        "UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "UNetMidBlock2DSimpleCrossAttn"], only_cross_attention=[True, [False, False], [True, False]],
    block_out_channels=[[8, 8], [8]], layers_per_block=[2, [1, 1], [1, 2], [2, 1], [1]], downsample_padding=[0], mid_block_scale_factor=[1.0, 2],
    dropout=[0.5], act_fn=["swish", "gelu", "mish"], norm_num_groups=[8, 2], norm_eps=[1e-6, 1e-2], cross_attention_dim=[[16, 16], [16, 24], 24],
    transformer_layers_per_block=[2, 0, [2, 1], [1, 0], [[1], [1]]], reverse_transformer_layers_per_block=[[1, 1], [[1, 1], [1, 1]], [1, 2]],
    encoder_hid_dim=[16], encoder_hid_dim_type=["text_proj"], attention_head_dim=[1, 4, [2, 2], [2, 4], [2]], num_attention_heads=[2],
    dual_cross_attention=[True], use_linear_projection=[True], class_embed_type=["timestep"], addition_embed_type=["text", "text_time"],
    addition_time_embed_dim=[8], num_class_embeds=[4], upcast_attention=[True], resnet_time_scale_shift=["scale_shift"], resnet_skip_time_act=[True],
    resnet_out_scale_factor=[2.0], time_embedding_type=["fourier"], time_embedding_dim=[32], time_embedding_act_fn=["silu", "swish", "gelu"],
    timestep_post_act=["silu"], time_cond_proj_dim=[8], conv_in_kernel=[1], conv_out_kernel=[1], projection_class_embeddings_input_dim=[64],
    attention_type=["gated"], class_embeddings_concat=[True], mid_block_only_cross_attention=[True, False], cross_attention_norm=["layer_norm"],
    addition_embed_type_num_heads=[8], in_channels=[5], out_channels=[5])
VAE_VALUES = dict(
    block_out_channels=[[8, 16], [8]], layers_per_block=[2], act_fn=["swish", "gelu"], latent_channels=[8], norm_num_groups=[8, 2],
    sample_size=[512, [16, 16]], scaling_factor=[0.13025, 1], shift_factor=[0.5, 0], latents_mean=[[0.1, 0.2, 0.3, 0.4]], latents_std=[[1.0, 2.0, 3.0, 4.0]],
    force_upcast=[False], use_quant_conv=[False], use_post_quant_conv=[False], mid_block_add_attention=[False], in_channels=[1], out_channels=[1],
    down_block_types=[["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]], up_block_types=[["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]])
TEXT_VALUES = dict(
    vocab_size=[600], hidden_size=[32], intermediate_size=[64], num_hidden_layers=[1, 3], num_attention_heads=[1, 4], max_position_embeddings=[80, 60],
    projection_dim=[8], hidden_act=["gelu", "gelu_new", "relu", "silu"], layer_norm_eps=[1e-3, 1e-12], attention_dropout=[0.5], initializer_range=[0.5],
    initializer_factor=[2.0], pad_token_id=[0], bos_token_id=[0], eos_token_id=[2, 5, 0], use_attention_mask=[True, False], use_return_dict=[False],
    output_hidden_states=[True], output_attentions=[True], torch_dtype=["float16"], pruned_heads=[{}], model_type=["clip"])
SCHEDULER_VALUES = dict(
    num_train_timesteps=[500, 1000.0], beta_start=[0.0001], beta_end=[0.02], beta_schedule=["linear", "squaredcos_cap_v2", "sigmoid"], trained_betas=[[0.01] * 1000],
    clip_sample=[True], set_alpha_to_one=[True], steps_offset=[0, 3], prediction_type=["v_prediction", "sample", "flow_prediction"], thresholding=[True],
    dynamic_thresholding_ratio=[0.9], clip_sample_range=[2.0], sample_max_value=[2.0], timestep_spacing=["linspace", "trailing", "leading"],
    rescale_betas_zero_snr=[True], skip_prk_steps=[True], interpolation_type=["log_linear"], use_karras_sigmas=[True], use_exponential_sigmas=[True],
    use_beta_sigmas=[True], sigma_min=[0.1], sigma_max=[10.0], timestep_type=["continuous"], final_sigmas_type=["sigma_min"], solver_order=[1, 3],
    algorithm_type=["dpmsolver", "sde-dpmsolver++"], solver_type=["heun", "bh2"], lower_order_final=[False], euler_at_final=[True], use_lu_lambdas=[True],
    use_flow_sigmas=[True], flow_shift=[2.0], lambda_min_clipped=[-5.1], variance_type=["learned"], original_inference_steps=[40], timestep_scaling=[5.0])
SCHEDULERS = ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"]


def every_key(family, file, default, other):
    for key in list(default) + [k for k in other if k not in default]:
        tried = []
        for v in [ABSENT, None] + [default.get(key, ABSENT)] + other.get(key, []):
            v = list(v) if isinstance(v, tuple) else v
            if isinstance(v, float) and v == -float("inf"):
                v = float("-inf")
            if any(show(v) == show(t) for t in tried):
                continue
            tried.append(v)
            case(f"{file} {key} {show(v)}", family, put(file, **{key: v}))


def keys():
    for family in ("sd1", "sdxl"):
        every_key(family, "unet/config.json", defaults(UNet2DConditionModel), UNET_VALUES)
    every_key("sd1", "vae/config.json", defaults(AutoencoderKL), VAE_VALUES)
    for key in ("shift_factor", "latents_mean", "latents_std", "force_upcast"):
        every_key("sdxl", "vae/config.json", {key: defaults(AutoencoderKL)[key]}, {key: VAE_VALUES[key]})
    text_defaults = {k: v for k, v in defaults(CLIPTextConfig).items()}
    every_key("sd1", "text_encoder/config.json", text_defaults, TEXT_VALUES)
    every_key("sdxl", "text_encoder_2/config.json", text_defaults, {k: v for k, v in TEXT_VALUES.items() if k in text_defaults})
    for name in SCHEDULERS:
        default = defaults(getattr(diffusers, name))
        file = "scheduler/scheduler_config.json"
        for key in default:
            tried = []
            for v in [ABSENT, None, default[key]] + SCHEDULER_VALUES.get(key, []):
                if any(show(v) == show(t) for t in tried):
                    continue
                tried.append(v)
                for family in ("sd1", "sdxl") if key in ("steps_offset", "clip_sample", "skip_prk_steps") else ("sd1",):
                    config = {"_class_name": name, "_diffusers_version": "0.34.0", **NOISE, "steps_offset": 1, key: v}
                    if v is ABSENT:
                        del config[key]
                    if name in ("DDIMScheduler", "LCMScheduler") and key != "clip_sample":
                        config["clip_sample"] = False
                    # Runge-Kutta steps take four at least.
                    steps = arguments(num_inference_steps=5) if name == "PNDMScheduler" else arguments()
                    case(f"{name} {key} {show(v)}", family, steps, lambda f, c=config, n=name: (
                        f.json.update({"scheduler/scheduler_config.json": c}), f.json["model_index.json"].update(scheduler=["diffusers", n])))


def index_and_versions():
    index, unet, sched = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
    for v in (ABSENT, None, True, False):
        case(f"force_zeros_for_empty_prompt {show(v)}", "sdxl", put(index, force_zeros_for_empty_prompt=v))
    case("force_zeros_for_empty_prompt and a negative prompt", "sdxl", arguments(negative_prompt="a cross"))
    for v in (None, False):
        case(f"add_watermarker {show(v)}", "sdxl", put(index, add_watermarker=v))
    for v in (ABSENT, None, True):
        case(f"requires_safety_checker {show(v)}", "sd1", put(index, requires_safety_checker=v))
    for cls in ("FlaxStableDiffusionPipeline", "StableDiffusionPipelineSafe", "LatentConsistencyModelPipeline", "StableDiffusionImg2ImgPipeline", ABSENT, None):
        case(f"class {show(cls)}", "sd1", put(index, _class_name=cls))
    case("Flax component classes", "sd1", put(index, unet=["diffusers", "FlaxUNet2DConditionModel"], vae=["diffusers", "FlaxAutoencoderKL"]))
    for version in ("0.8.0", "0.8.1", "0.9.0", "0.9.0.dev0", "0.10.0.dev0", "0.2.2", "0.1.3", "1.0.0", "nonsense", ABSENT):
        for size in (8, 32, 64):
            if size != 8 and version in ("0.1.3", "1.0.0", "nonsense"):
                continue
            small = {} if size == 8 and version not in ("0.8.0", "0.8.1", "0.2.2", "0.1.3") else dict(num_inference_steps=1, guidance_scale=1.0)
            case(f"sample_size {size} of version {show(version)}", "sd1", put(unet, sample_size=size, _diffusers_version=version), arguments(**small))
    case("sample_size 8 of version 0.8.0", "sdxl", put(unet, _diffusers_version="0.8.0"))
    case("sample_size [8, 8] of version 0.8.0", "sd1", put(unet, _diffusers_version="0.8.0", sample_size=[8, 8]))
    case("_use_default_values", "sd1", put(unet, _use_default_values=["norm_eps"], norm_eps=0.1))
    case("_use_default_values of the scheduler", "sd1", put(sched, _use_default_values=["set_alpha_to_one"]))
    for named, filed in (("PNDMScheduler", "DDIMScheduler"), ("DDIMScheduler", "PNDMScheduler"), ("EulerDiscreteScheduler", "PNDMScheduler"),
                         ("DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"), ("LCMScheduler", "DDIMScheduler"),
                         ("EulerAncestralDiscreteScheduler", "LCMScheduler"), ("DDIMScheduler", "HeunDiscreteScheduler"),
                         ("PNDMScheduler", "NoSuchScheduler"), ("DDIMScheduler", ABSENT), ("DDPMScheduler", "DDIMScheduler")):
        for family in ("sd1", "sdxl"):
            case(f"scheduler {named} in the index, {show(filed)} in its config", family, put(index, scheduler=["diffusers", named]),
                 put(sched, _class_name=filed))
    for override in SCHEDULERS:
        for own in ("DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"):
            for family in ("sd1", "sdxl"):
                def edit(f, own=own, override=override):
                    config = dict(_class_name=own, **NOISE)
                    if own in ("DDIMScheduler", "EulerDiscreteScheduler"):
                        config["rescale_betas_zero_snr"] = True
                        config["timestep_spacing"] = "trailing"
                    f.json[sched] = config
                    f.json[index]["scheduler"] = ["diffusers", own]
                    f.scheduler = override
                case(f"{own} replaced by {override}", family, edit)
    case("CLIPTextModelWithProjection", "sd1", put(index, text_encoder=["transformers", "CLIPTextModelWithProjection"]))
    case("first encoder with a projection", "sdxl", put(index, text_encoder=["transformers", "CLIPTextModelWithProjection"]))
    case("second encoder without a projection", "sdxl", put(index, text_encoder_2=["transformers", "CLIPTextModel"]))
    case("the projection is the first encoder's", "sdxl", put(index, text_encoder=["transformers", "CLIPTextModelWithProjection"],
                                                             text_encoder_2=["transformers", "CLIPTextModel"]))
    case("no first encoder", "sdxl", put(index, text_encoder=[None, None], tokenizer=[None, None]), put(unet, cross_attention_dim=24))
    case("a component of another library", "sd1", put(index, unet=["mylib", "UNet2DConditionModel"]))
    for k in ("text_config",):
        case("the config of all of CLIP", "sd1", lambda f: f.json.update({"text_encoder/config.json": {
            "model_type": "clip", "projection_dim": 512, "text_config": dict(TEXT), "vision_config": {"hidden_size": 64}}}))
    case("NaN, Infinity", "sd1", put(unet, unknown=float("nan"), other=float("-inf")))
    case("unknown keys", "sd1", put(unet, unknown=1), put("vae/config.json", other=[1]), put(index, feature=3), put(sched, strange="x"))


def stored():
    unet, one, text_file, vae = "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"
    for dtype in TYPES:
        case(f"weights stored as {dtype}", "sd1", weights(lambda w, d=dtype: w.update({k: (d, s) for k, (_, s) in w.items()})))
        case(f"weights stored as {dtype}", "sdxl", weights(lambda w, d=dtype: w.update({k: (d, s) for k, (_, s) in w.items()})))
    case("an unused tensor of U8", "sd1", weights(lambda w: w[one][1].update({"unused.state": [3]})))
    case("more weights than the config has", "sd1", put(unet, after=True, mid_block_type=None))
    case("a layer more than the config has", "sd1", put("text_encoder/config.json", after=True, num_hidden_layers=1))
    case("fewer layers than the config has", "sd1", put("text_encoder/config.json", after=True, num_hidden_layers=3))
    case("no middle block in the weights", "sd1", put(unet, mid_block_type=None), put(unet, after=True, mid_block_type="UNetMidBlock2DCrossAttn"))
    case("names of the other library", "sd1", weights(lambda w: w.update({"unet/model.safetensors": w.pop(one)})))
    case("fp16 names only", "sd1", lambda f: setattr(f, "variant", "fp16"), weights(lambda w: w.update({one.replace(".safe", ".fp16.safe"): w.pop(one)})))
    case("two names in the text encoder", "sd1", weights(lambda w: w.update({"text_encoder/diffusion_pytorch_model.safetensors": ("F32", {"w": [2]})})))
    case("position_ids in the text encoder", "sd1", weights(lambda w: w[text_file][1].update({"text_model.embeddings.position_ids": [1, 77]})))

    def old_names(w):
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for part in ("encoder", "decoder"):
            for new, old in names.items():
                for kind in ("weight", "bias"):
                    at = f"{part}.mid_block.attentions.0."
                    w[vae][1][f"{at}{old}.{kind}"] = w[vae][1].pop(f"{at}{new}.{kind}")
    case("old names of the VAE's attention", "sd1", weights(old_names))

    def shard(w):
        dtype, tensors = w.pop(one)
        names = sorted(tensors)
        for i in range(2):
            w[f"unet/diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"] = (dtype, {k: tensors[k] for k in names[i::2]})
        return {k: f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors" for i in range(2) for k in names[i::2]}

    def sharded(keep):
        def edit(f):
            whole = f.weights[one]
            where = shard(f.weights)
            f.text["unet/diffusion_pytorch_model.safetensors.index.json"] = json.dumps({"metadata": {"total_size": 1}, "weight_map": where})
            if keep:  # a single file of other weights beside the shards
                f.weights[one] = (whole[0], {k: s for k, s in whole[1].items() if not k.startswith("up_blocks")})
        edit.after = True
        return edit
    case("shards", "sd1", sharded(False))
    case("shards and a single file that is not whole", "sd1", sharded(True))


def requests():
    for family in ("sd1", "sd2", "sdxl"):
        for name, kw in {
            "no guidance": dict(guidance_scale=1.0), "guidance 0": dict(guidance_scale=0.0), "negative prompt": dict(negative_prompt="a cross"),
            "not square": dict(height=16, width=24), "clip_skip": dict(clip_skip=1), "two pictures": dict(num_images_per_prompt=2),
            "rescaled guidance": dict(guidance_rescale=0.7), "an empty prompt": dict(prompt=""), "a long prompt": dict(prompt="a red circle, " * 40),
            "one step": dict(num_inference_steps=1), "exclamation marks": dict(prompt="a red circle! wow!!"),
        }.items():
            case(name, family, arguments(**kw))
        for override in SCHEDULERS:
            case(f"five steps of {override}", family, lambda f, o=override: setattr(f, "scheduler", o), arguments(num_inference_steps=5))
    for eta in (0.0, 0.5, 1.0):
        case(f"eta {eta}", "sd1", arguments(eta=eta))
    case("second prompts", "sdxl", arguments(prompt_2="a ring", negative_prompt="a cross", negative_prompt_2="a bar"))
    case("sizes", "sdxl", arguments(original_size=[100, 120], crops_coords_top_left=[3, 5], target_size=[56, 72]))


def tokenizers():
    """What decides about padding; textenc has tests of the rest."""
    special, config = "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"
    golden = HERE / "testdata/sd1/tokenizer"
    map_, conf = json.loads((golden / "special_tokens_map.json").read_text()), json.loads((golden / "tokenizer_config.json").read_text())
    old = {k: v for k, v in conf.items() if k != "added_tokens_decoder"}
    for name, m, c in (
        ("old, pad in the map", dict(map_, pad_token="!"), old), ("old, pad in the config", {k: v for k, v in map_.items() if k != "pad_token"}, dict(old, pad_token="!")),
        ("old, two pads", dict(map_, pad_token="!"), dict(old, pad_token="<|endoftext|>")), ("new, two pads", dict(map_, pad_token="!"), conf),
        ("new, pad in the config", map_, dict(conf, pad_token="!")), ("no map", None, conf), ("old, no map", None, old), ("no pad", {}, {k: v for k, v in old.items() if "token" not in k}),
    ):
        case(f"tokenizer: {name}", "sd2", text(special, None if m is None else json.dumps(m)), text(config, json.dumps(c)),
             arguments(prompt="a red circle! on blue"))


# ---- the reference ----

def run(f, with_pixels):
    with tempfile.TemporaryDirectory() as tmp:
        at = pathlib.Path(tmp) / "model"
        f.write(at)
        try:
            # The class is the folder's: what model_index.json cannot open, nothing can.
            pipe = DiffusionPipeline.from_pretrained(at, variant=f.variant)
            pipe.set_progress_bar_config(disable=True)
            if f.scheduler:
                pipe.scheduler = getattr(diffusers, f.scheduler).from_config(pipe.scheduler.config)
            kw = {"prompt": "a red circle", "num_inference_steps": 3, "guidance_scale": 2.0, **f.arguments}
            last = {}
            images = pipe(**kw, generator=torch.Generator().manual_seed(7), output_type="np",
                          callback_on_step_end=lambda p, n, t, d: last.update(d) or d).images
            latents = last["latents"].contiguous()
            if not torch.isfinite(latents).all():
                return dict(latents="", refused="latents that are not finite")
            # Of large pictures the corners do.
            latents = latents[..., :16, :16].contiguous()
            pixels = np.round(images[:1, :16, :16] * 255).astype(np.uint8)
            enc = lambda a: base64.b64encode(a.tobytes()).decode()
            result = dict(latents=enc(latents.numpy()), shape=list(latents.shape))
            return dict(result, pixels=enc(pixels)) if with_pixels else result
        except Exception as e:  # what the reference refuses, in whatever way
            return dict(refused=f"{type(e).__name__}: {str(e)[:160]}")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    keys()
    index_and_versions()
    stored()
    requests()
    tokenizers()
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    old = json.loads(gzip.decompress(FILE.read_bytes())) if only else dict(files={}, cases=[])
    before = {c["name"]: c for c in old["cases"]}
    files, out, seen = {}, [], set()

    def keep(content):
        h = hashlib.sha256(content.encode()).hexdigest()[:12]
        files[h] = content
        return h

    for i, (name, family, edits) in enumerate(CASES):
        assert name not in seen, name
        seen.add(name)
        if only not in name:
            out.append(before[name])
            for h in [*before[name]["files"].values(), *(w["header"] for w in before[name]["weights"].values())]:
                files[h] = old["files"][h]
            continue
        f = build(family, edits)
        # Pictures take more room than latents; they differ where the VAE does.
        result = run(f, "vae" in name.lower() or i % 10 == 0)
        out.append(dict(
            name=name, files={k: keep(json.dumps(v)) for k, v in f.json.items()} | {k: keep(v) for k, v in f.text.items() if v is not None},
            weights={k: dict(type=d, header=keep(json.dumps(s))) for k, (d, s) in f.weights.items()},
            scheduler=f.scheduler or "", arguments=f.arguments, **result))
        print(f"{i + 1}/{len(CASES)} {name}: {result.get('refused', 'runs')}", flush=True)
    raw = json.dumps(dict(files=files, cases=out), sort_keys=True, separators=(",", ":")).encode()
    with open(FILE, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(raw)
    print(len(out), "folders,", sum("refused" in c for c in out), "refused,", FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
