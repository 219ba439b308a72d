"""What every process of a sweep sets up, and what it says of the machine that it runs on."""

import ctypes
import platform
import sys

import torch


def one_thread() -> None:
    """Use one thread per process: two busy processes of two threads each ran 15 times slower than of one each."""
    torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Have the C library keep memory that tensors free, where it is glibc.

    It gives large blocks back to the system otherwise, which then fills every page of the next ones with zeros: of the same
    activations at each step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(mmap_threshold, 32 << 20)  # the most that it takes
        mallopt(trim_threshold, (1 << 31) - 1)


def host() -> str:
    """What this process runs on, as far as that can change how numbers round: `x86_64 AVX2, python 3.11.7`, or the GPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {device}, python {platform.python_version()}"
