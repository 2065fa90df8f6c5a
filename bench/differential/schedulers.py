"""The part of the differential about schedulers: what they read of a config, their timesteps, the samples on their way."""

import base64
import functools
import importlib
import inspect
import itertools
import json
import logging
import math
import pathlib
import random
import types
import warnings

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline as Img2Img
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)

CLASSES = ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
           "DPMSolverMultistepScheduler", "LCMScheduler"]
DDIM, PNDM, EULER, ANCESTRAL, DPM, LCM = CLASSES
SIZE = 8
SPACINGS = ["leading", "linspace", "trailing"]
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


# --- cases

def case(cls, config, steps, pipeline="", index=None, override="", eta=0.0, size=SIZE, timesteps=None, sigmas=None,
         strength=None):
    """A run. Lists stand in place of the number of steps. With a strength it is image-to-image, else text-to-image."""
    config = dict(config)
    if cls:
        config["_class_name"] = cls
    c = dict(Config=json.dumps(config), Pipeline=pipeline, Class=index or cls, Override=override, Steps=steps, Eta=eta,
             Size=size)
    return c | {k: v for k, v in dict(Timesteps=timesteps, Sigmas=sigmas, Strength=strength).items() if v is not None}


def step_counts():
    """Every number of steps, of each class with each spacing."""
    mains = [(c, dict(SD, timestep_spacing=s)) for c in (DDIM, EULER, ANCESTRAL, DPM) for s in SPACINGS]
    mains += [(PNDM, dict(SD, timestep_spacing=s, skip_prk_steps=k)) for s in SPACINGS for k in (False, True)]
    mains += [(LCM, dict(original_inference_steps=o)) for o in (50, 1000)]
    mains += [(c, dict(SD, timestep_spacing=s, use_karras_sigmas=True)) for c in (EULER, DPM) for s in SPACINGS]
    mains += [(DPM, dict(timestep_spacing="leading", steps_offset=1)),
              (DPM, dict(SD, use_karras_sigmas=True, beta_schedule="squaredcos_cap_v2"))]
    for cls, config in mains:
        for n in range(1, 1001):
            # Of most runs the timesteps are compared, and whether they fail.
            yield case(cls, config, n, size=SIZE if n <= 64 or n % 37 == 0 else 0)


OPTIONS = {
    DDIM: dict(rescale_betas_zero_snr=[False, True], set_alpha_to_one=[False, True], clip_sample=[False, True],
               prediction_type=["epsilon", "v_prediction", "sample"], eta=[0.0, 0.5, 1.0]),
    PNDM: dict(set_alpha_to_one=[False, True], skip_prk_steps=[False, True], prediction_type=["epsilon", "v_prediction"],
               rescale_betas_zero_snr=[False, True]),
    EULER: dict(rescale_betas_zero_snr=[False, True], use_karras_sigmas=[False, True], final_sigmas_type=["zero", "sigma_min"],
                prediction_type=["epsilon", "v_prediction", "sample", "original_sample"], sigma_min=[None, 0.1],
                sigma_max=[None, 9.5]),
    ANCESTRAL: dict(rescale_betas_zero_snr=[False, True], prediction_type=["epsilon", "v_prediction"]),
    DPM: dict(rescale_betas_zero_snr=[False, True], use_karras_sigmas=[False, True], final_sigmas_type=["zero", "sigma_min"],
              prediction_type=["epsilon", "v_prediction", "sample"], solver_order=[1, 2], solver_type=["midpoint", "heun"],
              lower_order_final=[False, True], euler_at_final=[False, True], lambda_min_clipped=[-math.inf, -5.1]),
    LCM: dict(rescale_betas_zero_snr=[False, True], set_alpha_to_one=[False, True], clip_sample=[False, True],
              prediction_type=["epsilon", "v_prediction", "sample"], original_inference_steps=[10, 50, 100]),
}
COMMON = dict(timestep_spacing=SPACINGS, steps_offset=[0, 1], num_train_timesteps=[100, 999, 1000, 1024],
              betas=[SD, dict(beta_schedule="linear"), dict(beta_schedule="squaredcos_cap_v2")])
# Among them those at which trailing spacing rounds another way or gives one timestep more.
STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 25, 30, 48, 49, 50, 61, 96, 99, 100, 101, 103, 112, 121, 144]


def option_grid(most=6000):
    """Every combination of the classes' options, or a sample of them, each with a few numbers of steps."""
    rng = random.Random(1)
    for cls, options in OPTIONS.items():
        options = {**COMMON, **options}
        combos = list(itertools.product(*options.values()))
        each = max(1, round(most / len(combos)))
        for values in combos if len(combos) <= most else rng.sample(combos, most):
            config = dict(zip(options, values))
            eta = config.pop("eta", 0.0)
            config.update(config.pop("betas"))
            for n in rng.sample(STEPS, each):
                yield case(cls, config, n, eta=eta)


OTHERS = ["DDPMScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "DPMSolverSinglestepScheduler",
          "HeunDiscreteScheduler"]


def overrides(count=6000):
    """Models of which index and file name other classes, keys are missing or null, and another scheduler is made from them."""
    rng = random.Random(2)
    for _ in range(count):
        cls, index = rng.choice(CLASSES + OTHERS), rng.choice(CLASSES + OTHERS)
        if rng.random() < 0.5:
            index = cls
        override = rng.choice(CLASSES) if index in OTHERS or rng.random() < 0.7 else ""
        config = {} if rng.random() < 0.2 else dict(SD)
        options = {k: v for o in (COMMON, *OPTIONS.values()) for k, v in o.items() if k not in ("betas", "eta")}
        options.update(clip_sample_range=[0.5, 2.0], timestep_scaling=[5.0], algorithm_type=["dpmsolver++", "deis"],
                       solver_type=["midpoint", "heun", "logrho", "bh1", "bh2"],
                       _use_default_values=[["clip_sample", "steps_offset"], []],
                       timestep_type=["discrete", "continuous"], thresholding=[False], trained_betas=[None])
        for key in rng.sample(list(options), rng.randrange(len(options))):
            config[key] = rng.choice(options[key])
        pipeline = rng.choice(["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
        yield case(cls, config, rng.choice(STEPS), pipeline, index, override, eta=rng.choice([0.0, 1.0]))


ODD = [None, True, False, 0, 1, -1, 2, 3, 0.5, 1.0, 1000.0, math.inf, -math.inf, math.nan, "", "x", "zero", "linear",
       "dpmsolver", "cosine", "exp", "learned", "log_linear", "sde-dpmsolver++", "flow_prediction", [], [0.1], {}, {"a": 1}]


def registered(cls):
    return [k for k in inspect.signature(getattr(diffusers, cls).__init__).parameters if k != "self"]


def odd_values():
    """Every key of every class, and keys of other classes, with values that it does not expect."""
    keys = sorted({k for c in CLASSES for k in registered(c)} | {"_class_name", "_use_default_values", "sigma_data", "unknown"})
    for cls, key, value, spacing in itertools.product(CLASSES, keys, ODD, ("leading", "trailing")):
        config = dict(SD, _class_name=cls, timestep_spacing=spacing)
        if key in ("sigma_min", "sigma_max", "use_exponential_sigmas", "use_beta_sigmas"):
            config["use_karras_sigmas"] = key.startswith("sigma")
        if key == "clip_sample_range":
            config["clip_sample"] = True
        config[key] = value
        yield case(None, config, 6, index=cls)


def cases():
    yield from step_counts()
    yield from option_grid()
    yield from overrides()
    yield from odd_values()


# --- diffusers

def scheduler(c):
    """The scheduler of a case. It may be used again: set_timesteps begins anew."""
    return made(c["Config"], c["Pipeline"], c["Class"], c["Override"])


@functools.lru_cache(4)
def made(config, pipeline, cls, override):
    """A scheduler, made as a program that uses diffusers makes it."""
    config, pipe = json.loads(config), types.SimpleNamespace()
    try:
        # As DiffusionPipeline.from_pretrained has it.
        pipe.scheduler = getattr(diffusers, cls.removeprefix("Flax")).from_config(config)
    except Exception:
        if not override:
            raise
        # The model cannot be loaded. A program can still make another scheduler from its file, and naming one means that.
        pipe.scheduler = types.SimpleNamespace(config=FrozenDict(config))
    if pipeline == "StableDiffusionPipeline":
        config = pipe.scheduler.config
        if isinstance(pipe.scheduler, diffusers.SchedulerMixin):
            pipe = diffusers.StableDiffusionPipeline(None, None, None, None, pipe.scheduler, None, None,
                                                     requires_safety_checker=False)
        else:  # as that constructor
            changes = {k: v for k, v in dict(steps_offset=1, clip_sample=False).items() if k in config}
            pipe.scheduler.config = FrozenDict({**config, **changes})
    if override:
        pipe.scheduler = getattr(diffusers, override).from_config(pipe.scheduler.config)
    return pipe.scheduler


class Run:
    """The way of a scheduler with a model that stands in for itself."""

    @torch.no_grad()
    def __init__(self, s, c, dtype=torch.float32):
        timesteps, n = retrieve_timesteps(s, c["Steps"], None, c.get("Timesteps"), c.get("Sigmas"))
        self.timesteps = timesteps.double().numpy()
        self.init, self.first, mixes = float(s.init_noise_sigma), 0, []
        outputs, noise = torch.Generator().manual_seed(2), torch.Generator().manual_seed(3)
        x = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)
        mixed = "Strength" in c
        if mixed:
            timesteps = self.late(s, n, c["Strength"])
            clean = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(4)).to(dtype)
            x = s.add_noise(clean, x, timesteps[:1])
        else:
            x = x * s.init_noise_sigma
        if c["Size"] == 0:
            return self.ends(s)
        accepted = inspect.signature(s.step).parameters  # as prepare_extra_step_kwargs of the pipelines
        extra = {k: v for k, v in dict(eta=c["Eta"], generator=noise).items() if k in accepted}
        samples = []
        for t in timesteps:
            samples.append(x)
            if mixed:
                one, none = torch.ones(1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype)
                mixes += [float(s.add_noise(one, none, t[None])), float(s.add_noise(none, one, t[None]))]
            scaled = s.scale_model_input(x, t)
            out = 0.9 * torch.randn(1, SIZE, generator=outputs).to(dtype) + 0.1 * scaled
            x = s.step(out, t, x, **extra, return_dict=False)[0]
        samples.append(x)
        self.mixes = np.array(mixes, float)
        self.samples = torch.cat(samples).double().numpy()
        self.next = torch.randn(SIZE, generator=noise).numpy()

    def late(self, s, n, strength):
        """The timesteps of image-to-image, with the checks of its pipelines: most have both."""
        if not 0 <= strength <= 1:
            raise ValueError("The value of strength should in [0.0, 1.0]")
        timesteps, n_left = Img2Img.get_timesteps(types.SimpleNamespace(scheduler=s), n, strength, None)
        if n_left < 1:
            raise ValueError("the number of pipeline steps is < 1")
        self.first = n - n_left
        return timesteps

    def ends(self, s):
        """What fails in a run whose samples are not looked at: indices of the noise schedule, a count of steps that begins late."""
        self.samples = self.next = self.mixes = None
        if len(s.timesteps) == 0:
            raise IndexError("no timesteps")
        if isinstance(s, diffusers.DDIMScheduler):
            s.alphas_cumprod[s.timesteps]
        elif isinstance(s, diffusers.PNDMScheduler):
            self.pndm_ends(s)
        else:
            s._init_step_index(s.timesteps[0])
            if s.step_index > 0:
                raise IndexError("the last step is beyond the sigmas")

    def pndm_ends(self, s):
        """Every step, without the samples."""
        asked = []
        s._get_prev_sample = lambda sample, t, prev, output: asked.extend((int(t), max(int(prev), 0))) or sample
        try:
            for t in self.timesteps.astype(int).tolist():
                s.step(0.0, t, 0.0)
        finally:
            del s._get_prev_sample
        s.alphas_cumprod[asked]


@functools.cache
def in_float64(module):
    """A module of diffusers with float64 in place of float32."""
    source = pathlib.Path(importlib.import_module(module).__file__).read_text().replace("float32", "float64")
    twin = types.ModuleType(module)
    twin.__package__ = module.rpartition(".")[0]
    exec(compile(source, module, "exec"), twin.__dict__)
    draw = twin.__dict__.get("randn_tensor")

    def randn_tensor(shape, generator=None, device=None, dtype=None):
        return draw(shape, generator, device, torch.float32).double()

    twin.randn_tensor = randn_tensor
    return twin


def exact(c):
    """The same way in float64."""
    s = scheduler(c)
    config = {k: v for k, v in s.config.items() if k != "_use_default_values"}
    torch.set_default_dtype(torch.float64)
    try:
        return Run(getattr(in_float64(type(s).__module__), type(s).__name__).from_config(config), c, torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)


# --- comparison

NEAR = 4  # Euryale may be so many times as far from what is exact as diffusers is
PART = 1e-4  # of a timestep between whole ones: as much as the last bit of alphas_cumprod makes



def decoded(a, key):
    return np.frombuffer(base64.b64decode(a[key] or ""), "<f4").astype(float)


def distance(got, want):
    """Relative L2; infinite where one side has numbers that are not finite and the other has not."""
    if got.shape != want.shape:
        return math.inf
    if not (np.isfinite(got) == np.isfinite(want)).all():
        return math.inf
    ok = np.isfinite(want)
    d = np.linalg.norm((got - want)[ok])
    return d and d / max(np.linalg.norm(want[ok]), 1e-30)


def compare(c, a):
    try:
        theirs = Run(scheduler(c), c)
    except Exception as e:
        if a["Error"]:
            return "refused", None
        return "DIFFERENT", f"diffusers refuses: {type(e).__name__}: {str(e)[:90]}"
    if a["Error"]:
        return refused(c, a["Error"], theirs)
    ours = types.SimpleNamespace(timesteps=decoded(a, "Timesteps"), init=decoded(a, "Init")[0])
    if len(ours.timesteps) != len(theirs.timesteps):
        return "DIFFERENT", f"{len(ours.timesteps)} timesteps, want {len(theirs.timesteps)}"
    if theirs.samples is not None:
        ours.samples, ours.next = decoded(a, "Samples").reshape(-1, SIZE), decoded(a, "Next")
        ours.mixes = decoded(a, "Mixes")
        if a["First"] != theirs.first or len(ours.samples) != len(theirs.samples):
            return "DIFFERENT", f"begins with step {a['First']}, want {theirs.first}"
        if not (ours.next == theirs.next).all():
            return "DIFFERENT", "the generator of noise is at another place"
    wrong = differences(ours, theirs)
    if not wrong:
        whole = theirs.samples is None or np.isfinite(theirs.samples).all()
        return ("equal" if whole else "not finite"), None
    twin = exact(c)
    rest = [w for w in wrong if not rounding(w, ours, theirs, twin)]
    name = c["Override"] or c["Class"]
    return ("DIFFERENT", f"{name}: {', '.join(rest)}") if rest else ("rounding", f"{name}: {', '.join(wrong)}")


def refused(c, error, theirs):
    """What only Euryale refuses must be a key of the config, which the error names, or end in no numbers in diffusers."""
    name = c["Override"] or c["Class"]
    if " two steps one sigma" in error or error.startswith("sigmas is 0 at"):
        if theirs.samples is None:
            theirs = Run(scheduler(c), dict(c, Size=SIZE))
        if not np.isfinite(theirs.samples).all():
            return "refused here alone", f"{name}: steps of one sigma or 0, where diffusers' numbers are not finite"
    if error.startswith("sigmas is 1e+30"):
        return "refused here alone", f"{name}: a sigma that has no square in float32"
    if len(theirs.timesteps) == 0:
        return "refused here alone", f"{name}: no timestep at all, where diffusers leaves the noise as it is"
    for key in json.loads(c["Config"]):
        if f": {key}: " in error.splitlines()[0]:
            return "refused here alone", f"{name}: {key}, want {error.splitlines()[0].rpartition(', want ')[2]}"
    return "DIFFERENT", f"refused: {error}"


def differences(ours, theirs):
    wrong = []
    if (np.abs(ours.timesteps - theirs.timesteps) > 1e-6 * np.maximum(np.abs(theirs.timesteps), 1)).any():
        wrong.append("timesteps")
    if np.isfinite([ours.init, theirs.init]).any() and not abs(ours.init - theirs.init) <= 1e-6 * abs(theirs.init):
        wrong.append("init_noise_sigma")
    if theirs.samples is not None and not max(map(distance, ours.samples, theirs.samples)) <= 1e-5:
        wrong.append("samples")
    if theirs.samples is not None and not distance(ours.mixes, theirs.mixes) <= 1e-6:
        wrong.append("mixes")
    return wrong


def rounding(what, ours, theirs, twin):
    """Whether ours is as near to what is exact as diffusers is."""
    if what == "init_noise_sigma":
        return abs(ours.init - twin.init) <= NEAR * abs(theirs.init - twin.init)
    if what == "timesteps":
        near, far = np.abs(ours.timesteps - twin.timesteps), np.abs(theirs.timesteps - twin.timesteps)
        return near.max() <= max(PART, NEAR * far.max())
    if what == "mixes":
        return distance(ours.mixes, twin.mixes) <= max(1e-6, NEAR * distance(theirs.mixes, twin.mixes))
    # Where the exact way ends in numbers that are not finite, float32 may still have some.
    end = next((i for i, x in enumerate(twin.samples) if not np.isfinite(x).all()), len(twin.samples))
    near, far = (max(map(distance, side.samples[:end], twin.samples), default=0) for side in (ours, theirs))
    return near <= max(1e-5, NEAR * far)
