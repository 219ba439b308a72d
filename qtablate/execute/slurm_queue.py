"""What Slurm says of jobs: its commands, and how their output is read. No accounting database is needed."""

import getpass
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from qtablate.errors import QtablateError

_SECONDS = 60.0  # that a busy controller may take to answer


class SlurmError(QtablateError):
    """Slurm cannot be asked, or refuses what it was asked for."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A job that Slurm has not finished."""

    state: str
    """Such as PENDING or RUNNING."""
    reason: str
    """Why it waits."""

    def __str__(self) -> str:
        return f"{self.state.lower()}: {self.reason}" if self.state == "PENDING" and self.reason else self.state.lower()


def ask(*words: str) -> str:
    """Return what a command of Slurm prints. Raises SlurmError."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except FileNotFoundError:
        raise SlurmError(f"--executor slurm: there is no command {words[0]} here: run it where jobs can be submitted") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{words[0]} has not answered for {_SECONDS:g} seconds") from None
    if done.returncode:
        raise SlurmError(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def queue() -> dict[str, Queued]:
    """Return this user's jobs that are not finished, by their id: `17`, or `17_3` for a task of an array. Raises SlurmError."""
    out = {}
    for line in ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T|%r").splitlines():
        job, state, reason = (*line.strip().split("|", 2), "", "")[:3]
        out[job] = Queued(state, "" if reason == "None" else reason)
    return out


def ended_as(job: str) -> str:
    """Return how a job ended, in Slurm's words: `FAILED, exit code 1:0`; empty where Slurm has forgotten it."""
    try:
        text = ask("scontrol", "--oneliner", "show", "job", job)
    except SlurmError:
        return ""
    fields = dict(re.findall(r"(\w+)=(\S*)", text))
    reason = fields.get("Reason", "None")
    parts = [fields.get("JobState", ""), f"exit code {fields.get('ExitCode', '?')}", reason if reason != "None" else ""]
    return ", ".join(part for part in parts if part) if fields.get("JobState") else ""


def largest_array() -> int:
    """Return how many tasks an array may have (MaxArraySize: the first number that is too large). Raises SlurmError."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1000


def minutes(text: str) -> int:
    """Return Slurm's text of a time (minutes, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`) as minutes, rounded up; see sbatch(1).
    Raises ValueError."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise ValueError(f"'{text}' is no time")
    days, dash, rest = text.rpartition("-")
    numbers = [int(part) for part in rest.split(":")]
    if dash:
        hours, minute, second = (*numbers, 0, 0)[:3]
    else:
        hours, minute, second = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    return (int(days or 0) * 24 + hours) * 60 + minute + -(-second // 60)


def cancel_command(jobs: Sequence[str]) -> str:
    """Return the command that ends jobs: by their arrays."""
    return " ".join(["scancel", *dict.fromkeys(job.partition("_")[0] for job in jobs)])
