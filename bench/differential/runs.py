"""The part of the differential about runs of schedulers: listed timesteps and sigmas, image-to-image of any strength.

A case is one of schedulers.py, which has both sides, too.
"""

import math
import random

from schedulers import CLASSES, COMMON, DPM, EULER, LCM, OPTIONS, STEPS, case, compare  # noqa: F401


def some_timesteps(rng, n):
    """Timesteps as a caller may list them, for a model of n, and lists that are wrong in one way or another."""
    t = sorted(rng.sample(range(n), rng.randint(1, 12)), reverse=True)
    change = rng.randrange(12)
    if change == 0:
        rng.shuffle(t)
    elif change == 1:
        t.insert(rng.randrange(len(t)), rng.choice(t))
    elif change == 2:
        t[0] = rng.choice([n, n + 7, 10 * n])
    elif change == 3:
        t[-1] = rng.choice([-1, -5, -n - 1])
    elif change == 4:
        t = rng.choice([[], [0], [n - 1], [n - 1, n - 1], [5, 5, 3], list(range(n - 1, 0, -n // 9))])
    elif change == 5:
        t.reverse()
    return t


def some_sigmas(rng):
    """The same of sigmas."""
    logs = sorted((rng.uniform(math.log(0.02), math.log(20)) for _ in range(rng.randint(1, 12))), reverse=True)
    s = [math.exp(v) for v in logs] + [0.0]
    change = rng.randrange(12)
    if change == 0:
        rng.shuffle(s)
    elif change == 1:
        s.insert(rng.randrange(len(s)), rng.choice(s))
    elif change == 2:
        s = s[:-1]
    elif change == 3:
        s[-1] = 0.0292
    elif change == 4:
        s = rng.choice([[], [1.0], [1, 0], [1e3, 200, 3, 0], [14, -3, 1, 0], [5, 3, 0, 0], [1e30, 1, 0], [1e-9, 0],
                        [3, 1e-30, 0]])
    elif change == 5:
        s = [round(v, 2) for v in s]
    return s


STRENGTHS = [0.1, 0.25, 0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.99, 1.0, 1.0, 1.0]
WRONG_STRENGTHS = [0.0, 0.02, 1.5, -0.1]
# What a class takes, more often than not.
KINDS = {EULER: ["timesteps", "sigmas", "sigmas"], DPM: ["steps", "timesteps"], LCM: ["steps", "timesteps"]}


def cases(count=12000):
    """Lists of timesteps and sigmas, and image-to-image, of classes with any options."""
    rng = random.Random(3)
    for _ in range(count):
        cls = rng.choice(CLASSES)
        config = {k: rng.choice(v) for k, v in {**COMMON, **OPTIONS[cls]}.items()}
        config.update(config.pop("betas"))
        run = dict(eta=config.pop("eta", 0.0))
        kind = rng.choice(KINDS.get(cls, ["steps"]))
        if kind == "timesteps" or rng.random() < 0.03:
            run["timesteps"] = some_timesteps(rng, config["num_train_timesteps"])
        if kind == "sigmas" or rng.random() < 0.03:
            run["sigmas"] = some_sigmas(rng)
        if rng.random() < 0.7:
            run["strength"] = rng.choice(STRENGTHS if rng.random() < 0.95 else WRONG_STRENGTHS)
        yield case(cls, config, rng.choice([s for s in STEPS if s <= 30]), **run)
