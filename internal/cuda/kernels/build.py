"""Compiles the kernels, and those of examples, to the PTX that is committed beside them, with NVRTC of CUDA 11.8, and of
12.0 for Hopper's.

    make kernels

The first line of each .ptx is the SHA-256 of what it was compiled from; a Go test compares.
"""

import ctypes
import glob
import hashlib
import importlib.util
import os

HERE = os.path.dirname(os.path.abspath(__file__))
NVRTC = "11.8.89"
NVRTC_HOPPER = "12.0.76"  # the first with wgmma: its PTX is of ISA 8.0, for drivers from 525 on


def options(name):
    """Tensor cores' kernels need sm_80, Hopper's sm_90a and nothing else; the others run from sm_70 on."""
    arch = "compute_70"
    if name.endswith("_tensor.cu"):
        arch = "compute_80"
    if name.endswith("_hopper.cu"):
        arch = "compute_90a"
    return [f"--gpu-architecture={arch}", "--std=c++17", "-default-device", "-I" + HERE]


def version(name):
    return NVRTC_HOPPER if name.endswith("_hopper.cu") else NVRTC


def digest(name):
    """Of the file, the headers, and what compiles them."""
    h = hashlib.sha256()
    for path in [name] + sorted(glob.glob(os.path.join(HERE, "*.h"))):
        with open(path, "rb") as f:
            h.update(f.read())
    h.update(" ".join([version(name)] + options(name)[:-1]).encode())
    return h.hexdigest()


def library(version):
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    folder = os.path.join(list(spec.submodule_search_locations)[0], "lib")
    return ctypes.CDLL(os.path.join(folder, "libnvrtc.so.11.2" if version == NVRTC else "libnvrtc.so.12"))


def compile(nvrtc, name):
    with open(name, "rb") as f:
        source = f.read()
    prog = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(prog), source, os.path.basename(name).encode(), 0, None, None)
    opts = [o.encode() for o in options(name)]
    failed = nvrtc.nvrtcCompileProgram(prog, len(opts), (ctypes.c_char_p * len(opts))(*opts))
    text = text_of(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, prog)
    if failed:
        raise SystemExit(text)
    if text.strip():
        print(text)
    return text_of(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, prog)


def text_of(size, get, prog):
    n = ctypes.c_size_t()
    size(prog, ctypes.byref(n))
    buffer = ctypes.create_string_buffer(n.value)
    get(prog, buffer)
    return buffer.value.decode()


def main():
    for name in sorted(glob.glob(os.path.join(HERE, "*.cu")) + glob.glob(os.path.join(HERE, "../../../examples/*/*.cu"))):
        ptx = compile(library(version(name)), name)
        with open(name[:-3] + ".ptx", "w") as f:
            f.write(f"// {digest(name)}\n{ptx}")
        print(os.path.basename(name), len(ptx), "bytes,", ptx.count(".entry"), "kernels")


main()
