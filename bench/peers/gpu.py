"""Measures Euryale and diffusers' ways of offloading on one GPU, and the machine's own limits.

    CGO_ENABLED=0 go build ./bench/mkmodel                   on a machine with Go
    pip download --no-deps -d wheels diffusers==0.34.0       if the GPU's machine lacks it and has no network

    python bench/peers/gpu.py --mkmodel ./mkmodel --wheels wheels --models /tmp/models -o gpu.json
    go run ./bench/report gpu.json                           on a machine with Go

Needs torch, transformers and accelerate. Every variant runs in a process of its own; the file is written after each,
and --families and --variants divide a run that is too long. --trial runs everything on the CPU with folders for
tests, to find mistakes where there is no GPU; what needs a GPU in diffusers itself then fails, and says so.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import record

HERE = pathlib.Path(__file__).parent
SHAPES = "The largest shapes, and {}"  # as in limits.py
SIZES = {"sd15": 512, "sd21": 768, "sdxl": 1024}
SMALL_SIZES = {"sd15": 64, "sd21": 64, "sdxl": 128}
# The keys of gpu_rival.VARIANTS. Repeated, because this process is to leave the GPU alone and imports no torch.
VARIANTS = [
    "resident", "resident, channels-last", "resident, compiled", "resident, compiled, reduce-overhead", "model offload",
    "sequential offload", "group offload, block", "group offload, block, stream", "group offload, block, stream, record_stream",
    "group offload, leaf", "group offload, leaf, stream", "group offload, leaf, stream, record_stream",
]


def main():
    args = arguments()
    if args.wheels:
        install(args.wheels)
    rec = record.Record(args.output, args.seed, {}, args.append)
    for family in args.families:
        folder(args, family)
    limits(args, rec)
    shapes(args, rec)
    for family in args.families:
        size = (SMALL_SIZES if args.trial else SIZES)[family]
        case = f"{family}{args.suffix}, {size}x{size}, GPU"
        euryale(args, rec, case, family, size)
        precision(args, rec, case, family, size)
        for variant in args.variants:
            print(f"{case}: {variant}", file=sys.stderr, flush=True)
            command = [sys.executable, HERE / "gpu_rival.py", "--variant", variant, "-m", args.models / (family + args.suffix),
                       "-s", args.seed, "--size", size, "--steps", args.steps, "--rounds", args.rounds, *args.worker]
            try:
                found = record.run_json(command, args.timeout)
            except record.Failed as e:
                rec.fail(case, variant, str(e))
                continue
            rec.extend([{"case": case, "engine": variant, **s} for s in found["samples"]])
    print(f"{args.output}: {len(rec.content['samples'])} samples; go run ./bench/report {args.output}", file=sys.stderr)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True, help="where model folders are, or are to be written")
    p.add_argument("--mkmodel", default="mkmodel", help="the program that writes missing folders")
    p.add_argument("-o", dest="output", type=pathlib.Path, required=True, help="JSON file to write")
    p.add_argument("--families", nargs="*", default=["sd15", "sdxl"], choices=list(SIZES))
    p.add_argument("--variants", nargs="*", default=VARIANTS, choices=VARIANTS, metavar="VARIANT", help="; ".join(VARIANTS))
    p.add_argument("--euryale", help="our side: a command such as './euryale generate --json --quiet -o {tmp}/out.png --max-vram 4GiB'")
    p.add_argument("--ops", help="our ops: the test binary of internal/ops, built with the tag gpu")
    p.add_argument("--wheels", type=pathlib.Path, help="folder of wheels to install first")
    p.add_argument("--append", action="store_true", help="keep what the output file has of other variants")
    p.add_argument("--steps", type=int, default=6, help="denoising steps; the first is not counted")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--timeout", type=float, default=400, help="seconds for one variant")
    p.add_argument("--trial", action="store_true", help="small folders on the CPU")
    args = p.parse_args()
    if args.steps < 3:
        p.error("--steps must be 3 or more: the first is not counted")
    args.models = args.models.absolute()
    args.suffix = "-small" if args.trial else ""
    args.worker = ["--device", "cpu", "--small"] if args.trial else []
    return args


def install(wheels):
    names = sorted(wheels.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", *names], check=True, stdout=sys.stderr)


def folder(args, family):
    dir = args.models / (family + args.suffix)
    if not dir.exists():
        args.models.mkdir(parents=True, exist_ok=True)
        mkmodel = str(pathlib.Path(args.mkmodel).absolute()) if pathlib.Path(args.mkmodel).exists() else args.mkmodel
        record.run([mkmodel, "-family", family, "-o", dir] + ["-small"] * args.trial, 1800)


def limits(args, rec):
    command = [sys.executable, HERE / "limits.py", "--models", args.models, "--families", *args.families, f"--suffix={args.suffix}"]
    try:
        found = record.run_json([*command, *args.worker], args.timeout)
    except record.Failed as e:
        rec.fail("limits of the machine", "limits.py", str(e))
        return
    rec.content["machine"] |= found["machine"]
    rec.content["versions"] |= found["versions"]
    rec.extend(found["samples"])
    for f in found["failures"]:
        rec.fail(f["case"], f["engine"], f["error"])


def shapes(args, rec):
    """The largest shapes, ours and the vendor's libraries in turns."""
    with tempfile.TemporaryDirectory() as tmp:
        file = pathlib.Path(tmp) / "shapes.json"
        common = [sys.executable, HERE / "limits.py", "--models", args.models, "--families", *args.families, f"--suffix={args.suffix}", *args.worker]
        try:
            record.run([*common, "--write-shapes", file], args.timeout)
            known = {s["name"]: s for s in json.loads(file.read_text())}
            measured = bool(args.ops)
            for round in range(args.rounds):
                rec.extend(record.run_json([*common, "--shapes", file, "--round", round], args.timeout)["samples"])
                try:
                    if measured:
                        rec.extend([ours(known[name], round, float(us)) for name, us in benchmark(args, file, len(known))])
                except record.Failed as e:
                    rec.fail(SHAPES.format("cuBLASLt"), "euryale", str(e))
                    measured = False
        except record.Failed as e:
            rec.fail(SHAPES.format("cuBLASLt"), "cuBLASLt, cuDNN", str(e))


def benchmark(args, file, shapes):
    out = record.run([*shlex.split(args.ops), "-test.run", "^$", "-test.bench", "Device$"], args.timeout, {**os.environ, "GPU": "1", "EURYALE_SHAPES": str(file)})
    found = re.findall(r"op=(shape-\d+)/\S+.*?([\d.]+) us/op", out)
    if len(found) != shapes:
        raise record.Failed(f"{len(found)} of {shapes} shapes were timed: {out[-300:]!r}")
    return found


def ours(shape, round, microseconds):
    return {"case": SHAPES.format("cuBLASLt" if shape["linear"] else "cuDNN"), "engine": "euryale", "quantity": shape["quantity"], "unit": "s",
            "round": round, "value": microseconds / 1e6, "work": shape["flops"], "work_unit": "FLOP"}


# Ours, by what is added to the command. The first is what the others are compared with.
OURS = {
    "euryale": [],
    "euryale, model": ["--offload", "model"],
    "euryale, sequential": ["--offload", "sequential"],
    "euryale, sequential, window": ["--offload", "sequential", "--prefetch", "256MiB"],
    "euryale, auto": ["--offload", "auto", "--max-vram", "{half}"],
}


def euryale(args, rec, case, family, size):
    """Without --euryale there are no samples of ours, and the table says that we are not measured."""
    if not args.euryale:
        return
    half = {"sd15": "1GiB", "sd21": "1GiB", "sdxl": "3GiB"}[family]  # about half of what everything resident takes
    with tempfile.TemporaryDirectory() as tmp:
        for engine, more in OURS.items():
            more = [m.format(half="8MiB" if args.trial else half) for m in more]
            command = [*shlex.split(args.euryale.format(tmp=tmp)), "-m", args.models / (family + args.suffix), "-p", "a photograph of an astronaut riding a horse",
                       "-s", args.seed, "-W", size, "-H", size, "--steps", args.steps, *more]
            for round in range(args.rounds):
                try:
                    rec.summary(case, engine, round, record.run_json(command, args.timeout))
                except record.Failed as e:
                    rec.fail(case, engine, str(e))
                    break


def precision(args, rec, case, family, size):
    if not args.euryale:
        return
    command = [sys.executable, HERE / "precision.py", "-m", args.models / (family + args.suffix), "--case", case, "--size", size, "-s", args.seed,
               "--euryale", args.euryale, *args.worker]
    try:
        rec.extend(record.run_json(command, args.timeout)["samples"])
    except record.Failed as e:
        rec.fail(case, "precision", str(e))


if __name__ == "__main__":
    main()
