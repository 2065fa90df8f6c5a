"""Generates scenes that were held out of training and reads them back with a plain checker."""

import argparse
import pathlib

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

import scenes


def read(img):
    """Figure colour, shape and ground colour of a picture [64 64 3] of 8 bits."""
    names = list(scenes.COLOURS)
    palette = np.array(list(scenes.COLOURS.values()), float)
    nearest = ((img[:, :, None].astype(float) - palette) ** 2).sum(-1).argmin(-1)
    border = np.concatenate([nearest[:2].ravel(), nearest[-2:].ravel(), nearest[:, :2].ravel(), nearest[:, -2:].ravel()])
    ground = np.bincount(border, minlength=len(names)).argmax()
    counts = np.bincount(nearest.ravel(), minlength=len(names))
    counts[ground] = 0
    figure = counts.argmax()
    # A pixel belongs to the figure if it is past the middle between the two colours.
    axis = palette[figure] - palette[ground]
    mask = ((img.astype(float) - palette[ground]) @ axis) / (axis @ axis) > 0.5
    ys, xs = np.nonzero(mask)
    if len(ys) < 16:
        return names[figure], "none", names[ground]
    h, w = np.ptp(ys) + 1, np.ptp(xs) + 1
    fill = len(ys) / (h * w)
    cy, cx = (ys.min() + ys.max()) / 2, (xs.min() + xs.max()) / 2
    low = (ys.mean() - cy) / h  # below the middle of its box, as a triangle's centre is
    if w > 1.8 * h:
        shape = "bar"
    elif not mask[int(cy), int(cx)]:
        shape = "ring"
    elif low > 0.08:
        shape = "triangle"
    elif fill < 0.67:
        shape = "cross"
    else:
        box = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        ch, cw = max(1, h // 6), max(1, w // 6)
        corners = [box[:ch, :cw], box[:ch, -cw:], box[-ch:, :cw], box[-ch:, -cw:]]
        shape = "square" if np.mean([c.mean() for c in corners]) > 0.5 else "circle"
    return names[figure], shape, names[ground]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=pathlib.Path, default=pathlib.Path(__file__).parent / "model")
    p.add_argument("--guidance", type=float, default=7.5)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--sheet", help="write all pictures to one PNG")
    args = p.parse_args()
    torch.set_num_threads(2)
    rng = torch.Generator().manual_seed(1)
    drawn = scenes.combinations()[1]
    pictures = ((scenes.draw(drawn, rng) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    print("drawn scenes read right:", sum(read(x) == s for x, s in zip(pictures, drawn)), "of", len(drawn))

    pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    colours = shapes = 0
    sheet = []
    for i in range(96):
        want = drawn[i % 32]
        img = np.array(pipe(scenes.prompt(*want), num_inference_steps=args.steps, guidance_scale=args.guidance,
                            generator=torch.Generator().manual_seed(i)).images[0])
        got = read(img)
        sheet.append(img)
        colours += (got[0], got[2]) == (want[0], want[2])
        shapes += got[1] == want[1]
        if got != want:
            print(i, "want", *want, "got", *got)
    print(f"guidance {args.guidance}: colours {colours / 96:.1%}, shapes {shapes / 96:.1%} of 96 held-out pictures")
    if args.sheet:
        from PIL import Image
        rows = [np.concatenate(sheet[i : i + 12], 1) for i in range(0, 96, 12)]
        Image.fromarray(np.concatenate(rows, 0)).save(args.sheet)


if __name__ == "__main__":
    main()
