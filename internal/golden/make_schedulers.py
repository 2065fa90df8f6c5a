"""Makes the golden files of schedulers. make_golden.py does it too; by itself:

    .venv/bin/python internal/golden/make_schedulers.py

What a case is and how diffusers runs it is in bench/differential/schedulers.py.
"""

import base64
import collections
import gzip
import inspect
import itertools
import json
import math
import pathlib
import sys
import zlib

import diffusers
import numpy as np
import PIL.Image
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "bench" / "differential"))
from schedulers import (  # noqa: E402
    ANCESTRAL, CLASSES, DDIM, DPM, EULER, LCM, PNDM, SD, SPACINGS, Run, case, distance, exact, scheduler,
)

STABLE, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
ZERO = dict(rescale_betas_zero_snr=True)
TRAJECTORIES = [
    case(DDIM, {}, 10),
    case(DDIM, dict(**SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1), 7, eta=0.5),
    case(DDIM, dict(**SD, **ZERO, clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction"), 9),
    case(DDIM, dict(beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace", prediction_type="sample"), 6, eta=1.0),
    case(PNDM, dict(**SD, skip_prk_steps=True, steps_offset=1), 10),
    case(PNDM, dict(skip_prk_steps=True, prediction_type="v_prediction", timestep_spacing="trailing",
                    set_alpha_to_one=True), 6),
    case(PNDM, SD, 9),
    case(PNDM, dict(**SD, skip_prk_steps=True, timestep_spacing="linspace"), 1),
    case(EULER, {}, 10),
    case(EULER, dict(**SD, timestep_spacing="leading", steps_offset=1, prediction_type="v_prediction"), 8),
    case(EULER, dict(**SD, use_karras_sigmas=True, timestep_spacing="trailing"), 8),
    case(EULER, dict(**SD, **ZERO, timestep_spacing="trailing", final_sigmas_type="sigma_min"), 5),
    case(ANCESTRAL, {}, 10),
    case(ANCESTRAL, dict(**SD, timestep_spacing="leading", steps_offset=1), 8),
    case(ANCESTRAL, dict(**SD, timestep_spacing="trailing", prediction_type="v_prediction"), 5),
    case(DPM, {}, 20),
    case(DPM, dict(**SD, use_karras_sigmas=True, steps_offset=1, timestep_spacing="leading"), 9),
    case(DPM, dict(**SD, prediction_type="v_prediction", timestep_spacing="trailing", solver_type="heun"), 8),
    case(DPM, dict(**SD, solver_order=1, final_sigmas_type="sigma_min", lower_order_final=False), 6),
    case(DPM, dict(**SD, **ZERO, euler_at_final=True, prediction_type="sample"), 16),
    case(LCM, {}, 4),
    case(LCM, dict(prediction_type="v_prediction", original_inference_steps=40, steps_offset=1), 7),
    case(LCM, dict(clip_sample=True, set_alpha_to_one=False, timestep_scaling=5.0), 1),
    case(PNDM, dict(**SD, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1), 5, override=DDIM),
    case(PNDM, dict(**SD, skip_prk_steps=True, steps_offset=1), 12, override=DPM),
    case(DDIM, dict(**SD, clip_sample=False, steps_offset=1), 6, override=ANCESTRAL),
    # Noise is drawn where none is added: sigma does not change between timesteps beyond the last, nor after the first.
    case(ANCESTRAL, dict(**SD, num_train_timesteps=20, timestep_spacing="leading", steps_offset=1), 20),
    case(ANCESTRAL, dict(**SD, num_train_timesteps=10, timestep_spacing="trailing"), 10),
    case(DDIM, dict(**SD, clip_sample=False, timestep_spacing="trailing"), 4, eta=1.0),
    # Trailing spacing with another timestep, -1, and with one that numpy rounds another way.
    case(DDIM, dict(**SD, clip_sample=False, timestep_spacing="trailing"), 61),
    case(PNDM, dict(**SD, skip_prk_steps=True, timestep_spacing="trailing"), 61),
    case(EULER, dict(**SD, use_karras_sigmas=True, timestep_spacing="trailing"), 61),
    case(DPM, dict(**SD, timestep_spacing="trailing"), 61),
    case(DPM, dict(**SD, timestep_spacing="trailing"), 48),
    # More steps than timesteps.
    case(EULER, dict(**SD, num_train_timesteps=10), 15),
    case(PNDM, dict(**SD, num_train_timesteps=10, skip_prk_steps=True), 15),
    case(DPM, dict(**SD, num_train_timesteps=16, timestep_spacing="leading"), 15),
    # Keys that a class has not, and keys that are null.
    case(PNDM, dict(**SD, **ZERO, skip_prk_steps=True, prediction_type="v_prediction"), 6),
    case(ANCESTRAL, dict(**SD, use_karras_sigmas=True, thresholding=True, final_sigmas_type="sigma_min"), 6),
    case(DDIM, dict(**SD, set_alpha_to_one=None, clip_sample=None, rescale_betas_zero_snr=None, thresholding=None), 5),
    case(DPM, dict(**SD, lower_order_final=None, sigma_min=None, final_sigmas_type="sigma_min", use_lu_lambdas=None), 5),
    case(DDIM, dict(**SD, clip_sample=False, steps_offset=1, _use_default_values=["clip_sample", "steps_offset"]), 5),
    # Values that had been ignored or not read.
    case(DPM, dict(**SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=9.5), 7),
    case(DPM, dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), 8),
    case(DPM, dict(**SD, lambda_min_clipped=-math.inf, solver_type="bh2"), 8),
    case(EULER, dict(**SD, sigma_min=0.1, sigma_max=9.5, timestep_type="continuous", prediction_type="original_sample"), 5),
    case(EULER, dict(**SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=9.5), 5),
    # The index's class reads the file of another.
    case(DDIM, dict(**SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1), 7, pipeline=STABLE, index=PNDM),
    case(PNDM, dict(**SD, skip_prk_steps=True, steps_offset=1), 7, pipeline=STABLE, index="FlaxDDIMScheduler"),
    case(DPM, dict(**SD, solver_order=3, algorithm_type="dpmsolver"), 7, pipeline=XL, index=EULER),
    # What StableDiffusionPipeline changes, and whether a scheduler made from its own has it.
    case(DDIM, SD, 6, pipeline=STABLE),
    case(DDIM, SD, 6, pipeline=XL),
    case(DDIM, SD, 6, pipeline=STABLE, override=DDIM),
    case(DDIM, dict(**SD, clip_sample=True, steps_offset=0), 6, pipeline=STABLE, override=DDIM),
    case(PNDM, dict(**SD, clip_sample=True), 6, pipeline=STABLE, override=DDIM),
    case(PNDM, dict(**SD, steps_offset=None, skip_prk_steps=True), 6, pipeline=STABLE),
    case(PNDM, dict(**SD, steps_offset=7, skip_prk_steps=True), 6, pipeline=STABLE, override=LCM),
    case("DDPMScheduler", dict(**SD, clip_sample=True, variance_type="fixed_small"), 6, pipeline=STABLE, override=DDIM),
    case("DEISMultistepScheduler", dict(**SD, solver_type="heun", final_sigmas_type="sigma_min"), 6, override=DPM),
]


def trajectories(out):
    tensors = {}
    for i, c in enumerate(TRAJECTORIES):
        run = Run(scheduler(c), c)
        for name, x in dict(timesteps=run.timesteps, samples=run.samples, next=run.next).items():
            tensors[f"{i}.{name}"] = torch.tensor(x, dtype=torch.float32)
    save_file(tensors, out / "schedulers.safetensors")
    dump(out / "schedulers.json", TRAJECTORIES)


# The options of which every combination is tried with lists and with late beginnings.
RUN_OPTIONS = {
    DDIM: dict(timestep_spacing=SPACINGS, prediction_type=["epsilon", "v_prediction", "sample"],
               rescale_betas_zero_snr=[False, True]),
    PNDM: dict(timestep_spacing=SPACINGS, prediction_type=["epsilon", "v_prediction"], skip_prk_steps=[True, False]),
    EULER: dict(timestep_spacing=SPACINGS, prediction_type=["epsilon", "v_prediction", "sample"],
                rescale_betas_zero_snr=[False, True], use_karras_sigmas=[False, True]),
    ANCESTRAL: dict(timestep_spacing=SPACINGS, prediction_type=["epsilon", "v_prediction"],
                    rescale_betas_zero_snr=[False, True]),
    DPM: dict(timestep_spacing=SPACINGS, prediction_type=["epsilon", "v_prediction", "sample"],
              rescale_betas_zero_snr=[False, True], use_karras_sigmas=[False, True]),
    LCM: dict(prediction_type=["epsilon", "v_prediction", "sample"], rescale_betas_zero_snr=[False, True]),
}
LIST = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
SIGMAS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0]
# What a class takes or refuses, beside the combinations.
ODD_RUNS = [
    *(case(c, SD, 6, timesteps=t, strength=s) for c in CLASSES for s in (None, 0.5)
      for t in ([], [999], [1000, 500], [999, 500, -3], [999, -1001], [999, 500, 500, 20], [999, 999, 20],
                [20, 500, 999])),
    *(case(c, SD, 6, sigmas=x, strength=s) for c in CLASSES for s in (None, 0.5)
      for x in ([], [1.0], [9.5, 0], [30.0, 20.0, 3.0, 0], [3.0, 1.0, 9.0], [5.0, 5.0, 1.0, 0.03], [5.0, -2.0, 0])),
    *(case(c, SD, 6, timesteps=LIST, sigmas=SIGMAS) for c in CLASSES),
    *(case(c, SD, 7, strength=s) for c in CLASSES for s in (0.0, 0.14, 0.15, 0.99, 1.0, 1.01, -0.5)),
    *(case(DPM, dict(SD, solver_order=o, solver_type=t, euler_at_final=e, final_sigmas_type=f), 16, strength=s)
      for o in (1, 2) for t in ("midpoint", "heun") for e in (False, True) for f in ("zero", "sigma_min")
      for s in (0.9, 0.1)),
    *(case(EULER, dict(SD, final_sigmas_type="sigma_min", use_karras_sigmas=k), 6, **run)
      for k in (False, True) for run in (dict(strength=0.5), dict(timesteps=LIST), dict(sigmas=SIGMAS))),
    *(case(LCM, dict(set_alpha_to_one=o, num_train_timesteps=n, original_inference_steps=40), 6, timesteps=t)
      for o in (False, True, None, 0, "", [], 2, "x") for n in (40, 1000) for t in (LIST, [39, 20, -5, -9])),
    *(case(DDIM, dict(SD, clip_sample=False), 6, eta=e, strength=0.5) for e in (0.5, 1.0)),
    # Timesteps that come twice, or that the noise schedule has not, are none of a late beginning.
    *(case(c, dict(SD, timestep_spacing="leading", steps_offset=1, num_train_timesteps=20, skip_prk_steps=True), n,
           strength=s) for c in (DDIM, PNDM, EULER, ANCESTRAL) for n in (20, 24) for s in (0.5, 1.0)),
]


def run_cases():
    for cls, options in RUN_OPTIONS.items():
        for values in itertools.product(*options.values()):
            config = dict(SD, **dict(zip(options, values)))
            if cls == DDIM:
                config["clip_sample"] = False
            for strength in (1.0, 0.7, 0.35):
                yield case(cls, config, 6, strength=strength)
            for lists in (dict(timesteps=LIST), dict(sigmas=SIGMAS)):
                if cls in (EULER, DPM, LCM):
                    yield case(cls, config, 6, **lists)
                    yield case(cls, config, 6, strength=0.6, **lists)
    yield from ODD_RUNS


def runs(out):
    """Lists of timesteps and sigmas, and image-to-image: what diffusers gives, or that it refuses.

    With rescale_betas_zero_snr its rounding shows in the fifth digit, so what it gives is of its own source in float64.
    """
    lines = []
    for c in run_cases():
        try:
            run = Run(scheduler(c), c)
        except (ValueError, IndexError, RuntimeError):
            lines.append(dict(c, Refused=True))
            continue
        if len(run.timesteps) == 0 or not np.isfinite(run.samples).all():
            lines.append(dict(c, NoNumbers=True))  # which Euryale may refuse in words
            continue
        if json.loads(c["Config"]).get("rescale_betas_zero_snr"):
            single, run = run, exact(c)
            assert distance(run.samples, single.samples) <= 1e-3, c
        arrays = dict(Timesteps=run.timesteps, Init=[run.init], Mixes=run.mixes, Samples=run.samples, Next=run.next)
        lines.append(dict(c, First=run.first, Want={k: encoded(v) for k, v in arrays.items()}))
    counts = collections.Counter((c["Class"], *(k for k in ("Refused", "NoNumbers") if k in c)) for c in lines)
    print("runs:", dict(counts))
    with open(out / "runs.json.gz", "wb") as f, gzip.GzipFile("", "wb", fileobj=f, mtime=0) as z:
        z.write(json.dumps(lines, separators=(",", ":")).encode())


def encoded(v):
    return base64.b64encode(np.asarray(v, "<f4").tobytes()).decode()


def every_count(out):
    """The timesteps of every number of steps: a CRC of each list, 0 where diffusers fails or gives no numbers."""
    mains = [(c, dict(SD, timestep_spacing=s, num_train_timesteps=n))
             for c in (DDIM, EULER, ANCESTRAL, DPM) for s in SPACINGS for n in (1000, 1024)]
    mains += [(PNDM, dict(SD, timestep_spacing=s, skip_prk_steps=k)) for s in SPACINGS for k in (True, False)]
    mains += [(LCM, dict(original_inference_steps=n)) for n in (50, 1000)]
    # Timesteps of Karras' sigmas are not here: a few are so near to a half that the rounding of float32 decides.
    mains += [(DPM, dict(SD, timestep_spacing="leading", steps_offset=1)),
              (EULER, dict(SD, timestep_spacing="trailing", num_train_timesteps=100))]
    lines, crcs = [], []
    for cls, config in mains:
        lines.append(case(cls, config, 0))
        crcs += [crc(cls, config, n) for n in range(1, 1001)]
        print(cls, config, crcs[-1000:].count(0), "refused", flush=True)
    dump(out / "timesteps.json", lines)
    with open(out / "timesteps.bin.gz", "wb") as f, gzip.GzipFile("", "wb", fileobj=f, mtime=0) as z:
        z.write(np.array(crcs, "<u4").tobytes())


def crc(cls, config, n):
    c = case(cls, config, n, size=0)
    try:
        s = scheduler(c)
        timesteps = Run(s, c).timesteps.astype("<f4").tobytes()
        if cls == DPM and (s.sigmas[1:] == s.sigmas[:-1]).any():
            if not np.isfinite(Run(s, dict(c, Size=8)).samples).all():
                return 0
        return zlib.crc32(timesteps)
    except (ValueError, IndexError):
        return 0


def keys(out):
    """The keys that each class's constructor takes, and what they are if they are absent."""
    lines = []
    for cls in CLASSES:
        parameters = inspect.signature(getattr(diffusers, cls).__init__).parameters
        lines.append(dict(Class=cls, Defaults=json.dumps({k: p.default for k, p in parameters.items() if k != "self"})))
    dump(out / "scheduler_keys.json", lines)


@torch.no_grad()
def picture(out):
    """Latents of pipelines: noise is drawn in a step that adds none, and lists stand in place of a number of steps."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(out / "sd1")
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler.config

    def latents(cls, *, num_train_timesteps=1000, **steps):
        pipe.scheduler = getattr(diffusers, cls).from_config(own, num_train_timesteps=num_train_timesteps)
        assert pipe.scheduler.config.steps_offset == 1
        seeded = dict(generator=torch.Generator().manual_seed(5), height=16, width=16, output_type="latent")
        return pipe("a red circle", **seeded, **steps).images.contiguous()

    # The first two of these sigmas are one.
    save_file({"latents": latents(ANCESTRAL, num_train_timesteps=20, num_inference_steps=20),
               **{f"timesteps.{c}": latents(c, timesteps=LIST) for c in (EULER, DPM, LCM)},
               f"sigmas.{EULER}": latents(EULER, sigmas=SIGMAS)}, out / "drawn.safetensors")


@torch.no_grad()
def from_image(out):
    """Latents of image-to-image: the picture encoded, mixed with noise, and the steps from one in the middle on."""
    tensors = {}
    for folder, pipeline, variant in [("sd1", diffusers.StableDiffusionImg2ImgPipeline, None),
                                      ("sdxl", diffusers.StableDiffusionXLImg2ImgPipeline, "fp16")]:
        pipe = pipeline.from_pretrained(out / folder, variant=variant)
        pipe.set_progress_bar_config(disable=True)
        own = pipe.scheduler.config
        scale = pipe.vae_scale_factor
        image = PIL.Image.fromarray((np.arange(16 * 24 * 3) * 7 % 256).astype(np.uint8).reshape(16, 24, 3))
        for cls in (DDIM, PNDM, EULER, ANCESTRAL, DPM):
            pipe.scheduler = getattr(diffusers, cls).from_config(own)
            latents = pipe("a red circle", image=image, strength=0.6, num_inference_steps=7, guidance_scale=5.0,
                           generator=torch.Generator().manual_seed(5), output_type="latent").images
            assert latents.shape[-2:] == (16 // scale, 24 // scale)
            tensors[f"{folder}.{cls}"] = latents.contiguous()
    save_file(tensors, out / "img2img.safetensors")


def dump(file, lines):
    """JSON with one line per case."""
    file.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in lines) + "\n]\n")


def write(out):
    trajectories(out)
    runs(out)
    keys(out)
    picture(out)
    from_image(out)
    every_count(out)


if __name__ == "__main__":
    write(HERE / "testdata")
