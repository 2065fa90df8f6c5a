"""Runs the same cases through Euryale and through diffusers, and counts where they differ.

    make differential                                  every part, all cases
    .venv/bin/python bench/differential/differential.py schedulers --every 50
    .venv/bin/python bench/differential/differential.py runs

By hand, since it takes the better part of an hour on two cores. Needs the packages of internal/golden/requirements.txt.
A part is a module beside this file with two functions, and a verb of the program in ours, which answers each case of a
part, a line of JSON, by another line:

    cases()                yields cases, which are dicts of JSON values
    compare(case, answer)  -> (outcome, what is to be said of it or None)
    prepare(case)          optional: makes what a case needs, before it is answered
    CHUNK                  optional: how many cases are answered together

The outcomes, the last of which must not occur:

    equal               the same result
    refused             an error on both sides
    not finite          infinite or no number on both sides, from the same step on
    rounding            different, and Euryale is as near to the same formulas in float64 as diffusers is
    refused here alone  Euryale refuses by a message that names the reason, diffusers runs
    DIFFERENT           anything else
"""

import argparse
import collections
import importlib
import itertools
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PARTS = ["schedulers", "runs", "models", "strings"]
DIFFERENT = "DIFFERENT"


def work(job):
    """Answers and compares a chunk of cases."""
    part, binary, chunk = job
    module = importlib.import_module(part)
    for c in chunk if hasattr(module, "prepare") else []:
        module.prepare(c)
    lines = "".join(json.dumps(c) + "\n" for c in chunk)
    done = subprocess.run([binary, part], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    answers = done.stdout.splitlines()
    assert len(answers) == len(chunk), (len(answers), len(chunk))
    return [(c, *module.compare(c, json.loads(a))) for c, a in zip(chunk, answers)]


def chunks(part, binary, every):
    size = getattr(importlib.import_module(part), "CHUNK", 64)
    it = itertools.islice(importlib.import_module(part).cases(), 0, None, every)
    while chunk := list(itertools.islice(it, size)):
        yield part, binary, chunk


def run(part, binary, args):
    counts, said, start = collections.Counter(), collections.Counter(), time.time()
    with multiprocessing.Pool(args.jobs) as pool:
        for done in pool.imap_unordered(work, chunks(part, binary, args.every)):
            for case, outcome, remark in done:
                counts[outcome] += 1
                if remark:
                    said[outcome, remark] += 1
                if outcome == DIFFERENT and counts[outcome] <= args.show:
                    print(f"{DIFFERENT}: {remark}\n    {json.dumps(case)}", flush=True)
            print(f"\r{part}: {sum(counts.values()):,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for (outcome, remark), n in sorted(said.items()):
        if outcome != DIFFERENT:
            print(f"{outcome}: {remark} ({n})")
    found = ", ".join(f"{n:,} {outcome}" for outcome, n in counts.most_common())
    print(f"{part}: {sum(counts.values()):,} cases in {time.time() - start:.0f} s: {found}; {counts[DIFFERENT]} differences")
    return counts[DIFFERENT]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}")
    p.add_argument("--every", type=int, default=1, help="takes each n-th case only")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--show", type=int, default=20, help="differences that are printed")
    args = p.parse_args()
    sys.path.insert(0, str(HERE))
    # Each process has one thread; more only get in each other's way.
    os.environ.update(OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as tmp:
        binary = f"{tmp}/ours"
        subprocess.run(["go", "build", "-o", binary, "./bench/differential/ours"], cwd=HERE.parent.parent, check=True)
        differences = sum(run(part, binary, args) for part in args.parts)
    sys.exit(differences > 0)


if __name__ == "__main__":
    main()
