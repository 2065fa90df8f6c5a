"""What the GPU scripts ask of a device. Cuda is the real one; Host runs the same scripts on the CPU, so that they can
be tried where there is no GPU. What the host cannot tell is None, and becomes no sample."""

import contextlib
import subprocess
import threading
import time

import torch


def open_device(name):
    return {"cuda": Cuda, "cpu": Host}[name]()


class Cuda:
    name = "cuda"
    dtype = torch.float16

    def __init__(self):
        torch.zeros(1, device="cuda")  # the context, which is not the pipeline's
        torch.backends.cudnn.benchmark = True

    def describe(self):
        p = torch.cuda.get_device_properties(0)
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
        return {"device": p.name, "device_memory_MiB": p.total_memory >> 20, "driver": driver.stdout.strip() or "unknown",
                "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}

    def now(self):
        """The time when everything queued is done."""
        torch.cuda.synchronize()
        return time.perf_counter()

    def span(self, f, stream=None, after=None):
        """Seconds that what f queues takes on the device. What after queues keeps the device busy meanwhile, so that it
        does not wait for the queueing: needed where f is many short calls."""
        stream = stream or torch.cuda.current_stream()
        if after:
            after()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with torch.cuda.stream(stream):
            begin.record(stream)
            f()
            end.record(stream)
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def stream(self):
        return torch.cuda.Stream()

    def pinned(self, size):
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def used(self):
        """Bytes in use, of all processes, as the driver has it."""
        free, total = torch.cuda.mem_get_info()
        return total - free

    def peaks(self):
        """Peaks of the allocator: of tensors, and of what it holds."""
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()

    def profiler(self):
        return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])


class Host:
    name = "cpu"
    dtype = torch.float32  # half precision is slow or missing on CPUs

    def __init__(self):
        torch.cpu.empty_cache = lambda: None  # diffusers calls it on any device that it offloads from

    def describe(self):
        return {"device": "none: a trial on the CPU, whose figures mean nothing"}

    def now(self):
        return time.perf_counter()

    def span(self, f, stream=None, after=None):
        begin = time.perf_counter()
        f()
        return time.perf_counter() - begin

    def stream(self):
        return None

    def pinned(self, size):
        return torch.empty(size, dtype=torch.uint8)

    def used(self):
        return None

    def peaks(self):
        return None, None

    def profiler(self):
        return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])


def available():
    """Bytes of host memory that could still be had."""
    with open("/proc/meminfo") as f:
        for line in f:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) << 10


@contextlib.contextmanager
def watch(device, found):
    """Looks at memory every few milliseconds. Afterwards found has the most that was in use beyond what was at first:
    "driver", on the device, and "host", page-locked memory included, which a process's RSS leaves out."""
    base, host, done = device.used(), available(), threading.Event()
    most, least = base, host

    def look():
        nonlocal most, least
        while not done.wait(0.003):
            least = min(least, available())
            if base is not None:
                most = max(most, device.used())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        found["host"] = host - least
        found["driver"] = None if base is None else most - base
