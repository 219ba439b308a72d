"""What this machine offers to jobs: cores, GPUs and memory, also where a container has less of them than its host."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NVIDIA_DRIVER = "/proc/driver/nvidia/gpus"
_UNLIMITED = 2**60  # cgroup v1 writes a limit of about 2^63 bytes where there is none


@dataclass(frozen=True, slots=True)
class Resources:
    """What this process and its children may use."""

    cores: int
    """Of its affinity."""
    core_quota: float | None = None
    """Cores' worth of time that its cgroup may use; None: no limit."""
    memory_mb: float | None = None
    """Memory in MiB that is available now: of the machine, or less where a cgroup limits it; None: not known."""
    gpus: int = 0


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    try:
        return [str(number) for number, _ in enumerate(sorted(os.listdir(_NVIDIA_DRIVER)))]
    except OSError:
        return []


def read_resources(root: Path = Path("/")) -> Resources:
    """Read what there is now.

    Args:
        root: of the file system whose /proc and /sys are read.
    """
    return Resources(cores(), core_quota(root), available_memory_mb(root), len(gpus()))


def core_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of time that the cgroup and those above it allow; None where they set no limit."""
    quotas = []
    for folder, version in _cgroup_folders(root, "cpu"):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(_text(folder / name) for name in names).split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):  # v2 writes `max`, v1 -1
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def available_memory_mb(root: Path = Path("/")) -> float | None:
    """Return the memory in MiB that new processes can take: of the machine, and of the cgroup and those above it."""
    available = [1024 * kib for kib in _numbers(root / "proc/meminfo", "MemAvailable:")]
    for folder, version in _cgroup_folders(root, "memory"):
        limit, used, cache = {
            2: ("memory.max", "memory.current", "inactive_file"),
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        }[version]
        bounds = [_text(folder / name) for name in (limit, used)]
        if all(bound.isdigit() for bound in bounds) and int(bounds[0]) < _UNLIMITED:
            # pages of files that nobody has used lately count as used, and are given up when memory is asked for
            free = int(bounds[0]) - int(bounds[1]) + sum(_numbers(folder / "memory.stat", cache))
            available.append(max(0, free))
    return min(available) / 2**20 if available else None


def oom_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes the kernel has killed for want of memory since it started; None where it does not say."""
    return next(iter(_numbers(root / "proc/vmstat", "oom_kill")), None)


def _cgroup_folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield (folder, cgroup version) of this process's cgroup and of each one above it, as far as they are mounted.

    A container may see its own cgroup as the mount's root, or name it by a path of its host that is not there.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            mount, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth]), version


def _numbers(path: Path, name: str) -> list[int]:
    """Return the number behind a name in a file of such lines."""
    lines = (line.split() for line in _text(path).splitlines())
    return [int(words[1]) for words in lines if len(words) > 1 and words[0] == name and words[1].isdigit()]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
