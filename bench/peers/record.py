"""The file that a run of measurements leaves: what it ran on, every sample, every failure. No arithmetic: medians,
ratios and rates are made from it by "go run ./bench/report".

A sample is one number: {"case", "engine", "quantity", "unit", "round", "value"}. One that is the time of a known
amount of work also has {"work", "work_unit"}, so that a rate can be made of it.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys


class Record:
    """Collects samples, and writes the file after each so that a run that is cut off leaves what it has."""

    def __init__(self, path, seed, machine, append=False):
        self.path = pathlib.Path(path)
        self.kept, self.seen = [], set()  # samples of earlier runs, and what this one has measured anew
        self.content = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "command": shlex.join(["python", *sys.argv]),
            "seed": seed,
            "machine": {**host(), **machine},
            "versions": versions(),
            "samples": [],
            "failures": [],
        }
        if append and self.path.exists():
            before = json.loads(self.path.read_text())
            self.kept = before["samples"]
            self.content["command"] = before["command"] + "; " + self.content["command"]

    def add(self, case, engine, quantity, unit, round, value, work=None, work_unit=None):
        s = {"case": case, "engine": engine, "quantity": quantity, "unit": unit, "round": round, "value": value}
        if work is not None:
            s |= {"work": work, "work_unit": work_unit}
        self.extend([s])

    def extend(self, samples):
        """Adds samples that another process took."""
        self.seen |= {(s["case"], s["engine"]) for s in samples}
        self.content["samples"] += samples
        self.write()

    def fail(self, case, engine, error):
        print(f"{case}, {engine}: failed: {error}", file=sys.stderr, flush=True)
        self.content["failures"].append({"case": case, "engine": engine, "error": error})
        self.write()

    def summary(self, case, engine, round, s):
        """Adds what "euryale generate --json" prints; rivals print the same fields."""
        times = s["times"]
        self.add(case, engine, "load", "s", round, times["load"])
        if "text" in times:
            self.add(case, engine, "text encoding", "s", round, times["text"])
        for step in times["steps"][1:]:  # the first one warms up
            self.add(case, engine, "UNet step", "s", round, step)
        self.add(case, engine, "VAE decode", "s", round, times["decode"])
        self.add(case, engine, f"picture, {len(times['steps'])} steps", "s", round, s["seconds"])
        self.add(case, engine, "host RSS", "B", round, s["peak_rss_bytes"])
        if "packages_rss_bytes" in s:
            self.add(case, engine, "of it Python and its packages", "B", round, s["packages_rss_bytes"])
        if offload := s.get("offload"):
            self.add(case, engine, "device memory, allocator", "B", round, offload["peak_device_bytes"])
            if "uploaded_bytes_per_step" in offload:
                self.add(case, engine, "uploaded in a step", "B", round, offload["uploaded_bytes_per_step"])
            if offload["upload_gb_per_s"] > 0:
                moved = offload["uploaded_bytes"]
                self.add(case, engine, "upload, while copying", "s", round, moved / offload["upload_gb_per_s"] / 1e9, moved, "B")
        self.content["versions"] |= {k: v for k, v in s.get("versions", {}).items() if v}

    def write(self):
        part = self.path.with_suffix(".tmp")
        kept = [s for s in self.kept if (s["case"], s["engine"]) not in self.seen]
        part.write_text(json.dumps({**self.content, "samples": kept + self.content["samples"]}, indent=1))
        part.replace(self.path)


class Failed(Exception):
    pass


def run(command, timeout, env=None):
    """What a command prints on standard output. Failed says how it ended, in one line."""
    try:
        p = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, env=env)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {timeout:.0f} s")
    except OSError as e:
        raise Failed(str(e))
    if p.returncode != 0:
        raise Failed(f"exit code {p.returncode}: {reason(p.stderr)[:300]}")
    return p.stdout


def reason(stderr):
    """The line of it that names the error, or the last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["nothing on standard error"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failed)\b", line)]
    return (named or lines)[-1]


def run_json(command, timeout, env=None):
    """The JSON that a command prints, after whatever else it prints before."""
    out = run(command, timeout, env)
    try:
        return json.loads(out[out.index("{"):])
    except ValueError:
        raise Failed(f"no JSON: {out[-300:]!r}")


def host():
    cpu = platform.processor()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def versions():
    found = {"python": platform.python_version()}
    for name in ["torch", "diffusers", "transformers", "accelerate", "onnxruntime", "stable-diffusion-cpp-python"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
