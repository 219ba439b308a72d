"""What every process of a sweep sets up, and what it says of the machine that it runs on."""

import platform

import torch


def one_thread() -> None:
    """Use one thread per process: two busy processes of two threads each ran 15 times slower than of one each."""
    torch.set_num_threads(1)


def host() -> str:
    """What this process runs on, as far as that can change how numbers round: `x86_64 AVX2, python 3.11.7`, or the GPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {device}, python {platform.python_version()}"
