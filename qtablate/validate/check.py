"""Check data files before training: which entries would be left out, and what would make a score misleading.

The checks use the same readers as a sweep and report their problems as findings, decode each clip as a sweep would and then
as a whole (or read only headers), and examine what every reader accepts. They print and change nothing.

They cannot detect that an MPEG program or transport stream (mpg, vob, ts) was truncated between two of its packets, since
neither declares its length; within a packet they can. A wmv or asf file declares its length, unless it was broadcast.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qtablate.data.instructions import InstructionFile
from qtablate.data.mvbench import MVBench
from qtablate.datatypes import Item, Problem, Sample
from qtablate.errors import DataError
from qtablate.validate.entries import check_item, check_sample, find_duplicate_items, find_duplicate_samples
from qtablate.validate.findings import Finding, by_severity
from qtablate.validate.media import ClipUsers, Progress, check_media, find_leaks
from qtablate.validate.summaries import (
    SourceSummary,
    TaskSummary,
    check_sources,
    check_task,
    summarize_source,
    summarize_task,
)

IMAGE_SIZE = 224
"""Height and width in pixels at which clips are decoded: those of VideoChat2."""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Result of checking a benchmark or a training file."""

    findings: tuple[Finding, ...]
    """Errors first."""
    entries: int
    """Entries in the files."""
    usable: int
    """Entries whose text and clip can be used."""
    clips: int
    decoded: bool
    """Whether clips were decoded; otherwise only headers were read."""
    unknown_length: int = 0
    """Videos whose headers declare no length, where only headers were read."""
    tasks: tuple[TaskSummary, ...] = ()
    """Of a benchmark."""
    sources: tuple[SourceSummary, ...] = ()
    """Of a training file."""

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check_benchmark(directory: str, frames: int, decode: bool = True, progress: Progress = iter) -> ValidationReport:
    """Check a benchmark folder in MVBench's format.

    Args:
        frames: frames per clip that a model takes.
        decode: decode every clip; otherwise only headers are read.
        progress: iterates over the clips while they are decoded and may display progress.

    Raises:
        DataError: the folder cannot be read as a whole.
    """
    bench = MVBench(directory, frames, IMAGE_SIZE)
    users = _clip_users((item.clip, item.id) for item in bench.items)
    media = check_media(bench, users, frames, progress if decode else None)
    findings = [*_as_findings([*bench.problems, *bench.warnings]), *media.findings]
    tasks: dict[str, list[Item]] = {task: [] for task in bench.tasks}
    for item in bench.items:
        if item.clip not in media.unusable:
            tasks[item.task].append(item)
            findings += check_item(item)
    findings += find_duplicate_items([item for items in tasks.values() for item in items])
    entries = Counter(dict.fromkeys(bench.tasks, 0))
    entries.update(item.task for item in bench.items)
    entries.update(problem.subject.rpartition("-")[0] for problem in bench.problems)
    summaries = tuple(summarize_task(task, number, tasks[task]) for task, number in entries.items())
    for summary in summaries:
        findings += check_task(summary, len(summaries))
    return ValidationReport(
        by_severity(findings),
        entries.total(),
        sum(summary.usable for summary in summaries),
        len(users),
        decode,
        media.unknown_length,
        tasks=summaries,
    )


def check_training(
    file: str, media_root: str, frames: int, decode: bool = True, progress: Progress = iter, bench: str = ""
) -> ValidationReport:
    """Check a training file in VideoChat2-IT's format.

    Args:
        media_root: folder that clips are named from; empty: the file's own.
        frames: frames per clip that a model takes.
        decode: decode every clip; otherwise only headers are read.
        progress: iterates over the clips while they are decoded and may display progress.
        bench: benchmark folder in MVBench's format; training clips that it contains are leaks.

    Raises:
        DataError: the file or the benchmark cannot be read as a whole.
    """
    if not Path(file).exists():
        raise DataError(f"no file {file}; expected a json list of conversations")
    data = InstructionFile(file, media_root, frames, IMAGE_SIZE, allow_empty=True, option="")
    users = _clip_users((sample.clip, f"sample {sample.id}") for sample in data.samples)
    leaks = list(find_leaks(data, users, MVBench(bench, frames, IMAGE_SIZE))) if bench else []
    media = check_media(data, users, frames, progress if decode else None)
    findings = [*_as_findings([*data.problems, *data.warnings]), *media.findings]
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in data.samples:
        if sample.clip not in media.unusable:
            groups[_source_name(sample.clip), sample.medium].append(sample)
            findings += check_sample(sample)
    findings += find_duplicate_samples([sample for group in groups.values() for sample in group])
    summaries = tuple(summarize_source(source, medium, group) for (source, medium), group in sorted(groups.items()))
    findings += check_sources(summaries)
    return ValidationReport(
        by_severity([*findings, *leaks]),
        len(data.samples) + len(data.problems),
        sum(summary.samples for summary in summaries),
        len(users),
        decode,
        media.unknown_length,
        sources=summaries,
    )


def _clip_users(pairs: Iterable[tuple[str, str]]) -> ClipUsers:
    """Group (clip, user) pairs by clip."""
    users: Mapping[str, list[str]] = defaultdict(list)
    for clip, user in pairs:
        users[clip].append(user)
    return users


def _as_findings(problems: Sequence[Problem]) -> list[Finding]:
    """Turn the readers' problems into findings."""
    return [Finding(problem.kind, problem.subject, problem.detail) for problem in problems]


def _source_name(clip: str) -> str:
    """Return the first folder in a clip's name, "." where there is none."""
    parts = PurePosixPath(clip).parts
    return parts[0] if len(parts) > 1 else "."
