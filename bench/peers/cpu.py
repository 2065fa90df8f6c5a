"""Measures Euryale and its rivals on the CPU: the same weights, the same picture, in turns.

    CMAKE_ARGS=-DGGML_LLAMAFILE=ON pip install -r internal/golden/requirements.txt -r bench/peers/requirements.txt
    python bench/peers/cpu.py --models $EURYALE_MODELS -o cpu.json
    go run ./bench/report cpu.json

Run it from the repository. In each round every engine makes one picture in a process of its own; the peak of fused
multiply-adds is measured before and after each, and how much of the cores other processes took meanwhile. That should
be nothing: engines whose threads wait by spinning suffer out of proportion, so a picture waits until the machine is
quiet, for --patience seconds at most. --small runs everything on folders for tests in a minute.
"""

import argparse
import os
import pathlib
import re
import resource
import shlex
import sys
import tempfile
import time

import record

HERE = pathlib.Path(__file__).parent
RIVALS = ["pytorch", "pytorch channels-last", "onnxruntime", "stable-diffusion.cpp"]


def main():
    args = arguments()
    rec = record.Record(args.output, args.seed, {"device": "cpu", "threads": args.threads})
    case = f"{args.family}{' small' if args.small else ''}, {args.size}x{args.size}, CPU"
    with tempfile.TemporaryDirectory() as tmp:
        build(args, tmp)
        model = folder(args, tmp)
        commands = {"euryale": shlex.split(args.euryale.format(bin=tmp, out=tmp)) + flags(args, model)}
        for engine in args.engines:
            commands[engine] = [sys.executable, HERE / "cpu_rival.py", "--engine", engine, *rival_flags(args, model)]
        if "onnxruntime" in args.engines:
            try:
                record.run([*commands["onnxruntime"], "--export"], args.timeout)
            except record.Failed as e:
                rec.fail(case, "onnxruntime", f"export: {e}")
                del commands["onnxruntime"]
        for round in range(args.rounds):
            for engine in list(commands):
                if round >= args.slow_rounds and engine in args.slow:
                    continue
                if not measure(args, rec, case, engine, round, commands[engine], f"{tmp}/euryale"):
                    del commands[engine]
    print(f"{args.output}: {len(rec.content['samples'])} samples; go run ./bench/report {args.output}", file=sys.stderr)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True, help="where model folders are, or are to be written")
    p.add_argument("-o", dest="output", type=pathlib.Path, required=True, help="JSON file to write")
    p.add_argument("--family", default="sd15", choices=["sd15", "sd21"])
    p.add_argument("--small", action="store_true")
    p.add_argument("--size", type=int)
    p.add_argument("--engines", nargs="*", default=RIVALS, choices=[*RIVALS, "stable-diffusion.cpp, direct convolutions"])
    p.add_argument("--euryale", default="{bin}/euryale generate --json --quiet -o {out}/out.png", help="our side: a command")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--slow", nargs="*", default=["stable-diffusion.cpp"], help="engines that take part in --slow-rounds only")
    p.add_argument("--slow-rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=3, help="denoising steps; the first is not counted")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine, before each picture")
    p.add_argument("--timeout", type=float, default=1800, help="seconds for one picture")
    args = p.parse_args()
    if args.steps < 2:
        p.error("--steps must be 2 or more: the first is not counted")
    args.size = args.size or (64 if args.small else 512)
    args.models = args.models.absolute()
    return args


def build(args, tmp):
    record.run(["go", "build", "-o", tmp, "./cmd/euryale", "./bench/mkmodel"], args.timeout)


def folder(args, tmp):
    dir = args.models / (args.family + ("-small" if args.small else ""))
    if not dir.exists():
        args.models.mkdir(parents=True, exist_ok=True)
        record.run([f"{tmp}/mkmodel", "-family", args.family, "-o", dir] + ["-small"] * args.small, args.timeout)
    return dir


def flags(args, model):
    return ["-m", model, "-p", "a photograph of an astronaut riding a horse", "-s", args.seed, "-W", args.size, "-H", args.size,
            "--steps", args.steps, "--threads", args.threads]


def rival_flags(args, model):
    return ["-m", model, "-s", args.seed, "--size", args.size, "--steps", args.steps, "--threads", args.threads]


def measure(args, rec, case, engine, round, command, doctor):
    """One picture, between two measurements of the machine's peak."""
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    wait_for_quiet(args.patience)
    before = peak(doctor, args)
    try:
        others = Others()
        s = record.run_json(command, args.timeout, env)
        share = others.share()
    except record.Failed as e:
        rec.fail(case, engine, str(e))
        return False
    rec.summary(case, engine, round, s)
    for value in [before, peak(doctor, args)]:
        rec.add(case, engine, "FMA peak", "FLOP/s", round, value)
    rec.add(case, engine, "other processes", "of the cores", round, share)
    print(f"round {round}, {engine}: {s['times']}, other processes {share:.2f}", file=sys.stderr, flush=True)
    return True


class Others:
    """What other processes take of the cores, and other virtual machines, from now on."""

    def __init__(self):
        self.begun, self.busy = time.perf_counter(), self.others()

    def share(self):
        return max(0.0, (self.others() - self.busy) / (time.perf_counter() - self.begun) / os.cpu_count())

    def others(self):
        """Seconds of all cores, less those of the processes that this one ran."""
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own.ru_utime - own.ru_stime


def wait_for_quiet(patience):
    until = time.perf_counter() + patience
    while time.perf_counter() < until:
        others = Others()
        time.sleep(1)
        if others.share() < 0.1:
            return


def peak(doctor, args):
    out = record.run([doctor, "doctor", "-threads", args.threads], 60)
    return float(re.search(r"fma peak\s+([\d.]+) GFLOP/s", out)[1]) * 1e9


if __name__ == "__main__":
    main()
