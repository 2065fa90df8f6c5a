"""The scenes the embedded model is trained on: "a {colour} {shape} on a {colour} background", 64x64 pixels."""

import itertools
import random

import torch

SIDE = 64
COLOURS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0), "green": (0, 160, 0),
    "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255), "magenta": (255, 0, 255),
}
SHAPES = ["circle", "square", "triangle", "ring", "cross", "bar"]


def combinations():
    """Every scene, and apart from them the tenth that is never trained on."""
    every = [(f, s, g) for f, s, g in itertools.product(COLOURS, SHAPES, COLOURS) if f != g]
    held = set(random.Random(20).sample(every, len(every) // 10))
    return [c for c in every if c not in held], sorted(held)


def prompt(figure, shape, ground):
    return f"a {figure} {shape} on a {ground} background"


def distance(shape, x, y, r):
    """Signed distance to the outline, about, in pixels; x and y from the centre, y down."""
    box = lambda w, h: torch.maximum(x.abs() - w, y.abs() - h)
    if shape == "circle":
        return (x * x + y * y).sqrt() - r
    if shape == "square":
        return box(0.9 * r, 0.9 * r)
    if shape == "triangle":  # equal sides, one down
        up = 0.5 * (3**0.5 * x.abs() - y) - 0.5 * r
        return torch.maximum(up, y - 0.5 * r)
    if shape == "ring":
        return ((x * x + y * y).sqrt() - 0.75 * r).abs() - 0.25 * r
    if shape == "cross":
        return torch.minimum(box(r, r / 3), box(r / 3, r))
    return box(1.15 * r, 0.38 * r)  # bar


def draw(scenes, rng):
    """Pictures of scenes, [B 3 64 64] from -1 to 1, sizes and places, near the middle, taken from rng."""
    grid = torch.arange(SIDE) + 0.5
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    out = torch.empty(len(scenes), 3, SIDE, SIDE)
    for i, (figure, shape, ground) in enumerate(scenes):
        r, dx, dy = torch.rand(3, generator=rng).tolist()
        r = 15 + 5 * r
        cx, cy = SIDE / 2 + 6 * (dx - 0.5), SIDE / 2 + 6 * (dy - 0.5)
        inside = (0.5 - distance(shape, x - cx, y - cy, r)).clamp(0, 1)
        f, g = (torch.tensor(COLOURS[c]).view(3, 1, 1) / 127.5 - 1 for c in (figure, ground))
        out[i] = g + (f - g) * inside
    return out
