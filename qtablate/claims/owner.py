"""Which process owns a claim, and whether it still runs."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that others can tell whether it still runs."""

    host: str
    space: str
    """Boot of the machine and namespace of its process numbers: where they agree, a number means the same process."""
    process: int
    began: str
    """When it began, since numbers are used again."""
    job: str = ""
    """The scheduler's job that it is: two processes with the same one never run at once."""

    def __str__(self) -> str:
        return f"{self.job} on {self.host}" if self.job else f"process {self.process} on {self.host}"

    @property
    def ended(self) -> bool:
        """Whether it was a process of this machine and no longer runs; False where that cannot be known from here."""
        me = this_process()
        return (self.host, self.space) == (me.host, me.space) and _began(self.process) != self.began


def this_process(job: str = "") -> Owner:
    """Return this process as an owner."""
    return Owner(socket.gethostname(), _space(), os.getpid(), _began(os.getpid()), job)


@cache
def _space() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        return ""


def _began(process: int) -> str:
    """When a process of this machine began, by the kernel's count; empty where it does not run."""
    try:
        status, _, rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _runs(process)
    except OSError:
        return ""
    values = rest.split()
    return "" if not status or values[0] in "ZX" else values[19]


def _runs(process: int) -> str:
    """Where there is no /proc: whether a process runs is all that is known of it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:  # another user's
        pass
    return "runs"
