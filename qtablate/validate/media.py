"""Check clips as files: which cannot be decoded, which are too short, and which have equal contents."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from qtablate.datatypes import Clips
from qtablate.errors import BadMedia
from qtablate.validate import findings as kinds
from qtablate.validate.duplicates import duplicate_groups
from qtablate.validate.findings import Finding, abbreviate
from qtablate.video.container import VideoLength, ends_within_packet
from qtablate.video.frames import TimeSpan, count_frames, frames_in_span, length_from_header, probe_length
from qtablate.video.isolated import run_isolated
from qtablate.video.paths import is_frame

END_TOLERANCE = 1.0
"""Seconds that a time span may end after its clip: time stamps are rounded."""

ClipUsers = Mapping[str, Sequence[str]]
"""Clip -> names of the items or samples that use it."""

Progress = Callable[[Sequence[str]], Iterable[str]]
"""Iterates over the clips it is given and may display progress."""


class FileClips(Clips, Protocol):
    """Clips that are stored in files."""

    def file(self, clip: str) -> tuple[Path, TimeSpan]:
        """Return a clip's file or folder and the part of it that is shown."""
        ...


@dataclass(slots=True)
class MediaCheck:
    """Result of checking the clips of a data set."""

    findings: list[Finding] = field(default_factory=list)
    unusable: set[str] = field(default_factory=set)
    """Clips that cannot be used."""
    unknown_length: int = 0
    """Videos whose headers declare no length, where only headers were read."""


def check_media(source: FileClips, users: ClipUsers, num_frames: int, progress: Progress | None) -> MediaCheck:
    """Check every clip of a data set.

    Args:
        num_frames: frames per clip that a model takes.
        progress: iterates over the clips while they are decoded; None: nothing is decoded, only headers are read.
    """
    check = MediaCheck([*find_shared_names(source, users), *find_copies(source, users), *find_incomplete(source, users)])
    lengths: dict[str, VideoLength] = {}
    if progress is None:
        for clip, outcome in read_headers(source, users):
            if isinstance(outcome, Finding):
                check.findings.append(outcome)
                check.unusable.add(clip)
            elif outcome is None:
                check.unknown_length += 1
            else:
                lengths[clip] = outcome
    else:
        for finding in decode_clips(source, progress(list(users)), users):
            check.findings.append(finding)
            if finding.kind != kinds.LOST_FRAMES:
                check.unusable.add(finding.subject)
        lengths = measure_lengths(source, [clip for clip in users if clip not in check.unusable])
    check.findings += find_short(source, lengths, users, num_frames)
    return check


def decode_clips(source: FileClips, clips: Iterable[str], users: ClipUsers) -> Iterator[Finding]:
    """Find clips that cannot be decoded, and usable ones that give fewer frames than their file lists.

    Clips are decoded as in a sweep, at the sampled frames; then each file is decoded as a whole, once.
    """
    decoded: set[Path] = set()
    for clip in clips:
        path = source.file(clip)[0]
        try:
            source.frames(clip)
        except BadMedia as problem:
            yield _unusable(path, clip, problem, users)
            continue
        if path.is_file() and not is_frame(path) and path not in decoded:
            decoded.add(path)
            with suppress(BadMedia):  # decoding the whole file may take too long where the frames of a time span do not
                counts = run_isolated(path, count_frames, path)
                if counts.decoded < counts.listed:
                    detail = f"{counts.decoded} of {counts.listed} frames can be decoded ({abbreviate(users[clip])})"
                    yield Finding(kinds.LOST_FRAMES, clip, detail)


def find_incomplete(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Find files that end in the middle of a packet and whose format does not declare a length."""
    for path, name in media_files(source, users).items():
        if path.is_file() and ends_within_packet(path):
            yield Finding(kinds.ENDS_WITHIN_PACKET, name, f"{path.stat().st_size:,} bytes")


def _unusable(path: Path, clip: str, problem: BadMedia, users: ClipUsers) -> Finding:
    """Turn a problem into a finding that names the clip's users rather than its full path."""
    detail = problem.detail.removeprefix(str(path)).lstrip(": ").replace(str(path), path.name)
    return Finding(problem.kind, clip, f"{detail} ({abbreviate(users[clip])})")


def read_headers(source: FileClips, users: ClipUsers) -> Iterator[tuple[str, VideoLength | Finding | None]]:
    """Yield each video clip with its length by the header, None where that is unknown, or why it cannot be used."""
    for clip in users:
        path, span = source.file(clip)
        if not _is_image(path):
            try:
                yield clip, run_isolated(path, length_from_header, path, span)
            except BadMedia as problem:
                yield clip, _unusable(path, clip, problem, users)


def measure_lengths(source: FileClips, clips: Iterable[str]) -> dict[str, VideoLength]:
    """Return the length of each video clip by its packets; images are left out."""
    by_path: dict[Path, VideoLength] = {}
    lengths: dict[str, VideoLength] = {}
    for clip in clips:
        path = source.file(clip)[0]
        if not _is_image(path):
            by_path[path] = by_path.get(path) or probe_length(path)
            lengths[clip] = by_path[path]
    return lengths


def _is_image(path: Path) -> bool:
    return is_frame(path) and path.is_file()


def find_short(source: FileClips, lengths: Mapping[str, VideoLength], users: ClipUsers, num_frames: int) -> Iterator[Finding]:
    """Find clips or time spans with fewer frames than are sampled, and spans that end after their clip."""
    for clip, length in lengths.items():
        path, span = source.file(clip)
        if span.end is not None and span.end > length.seconds + END_TOLERANCE:
            detail = f"ends at {span.end:g} s of {length.seconds:.1f} s"
            yield Finding(kinds.END_PAST, clip, f"{detail} ({abbreviate(users[clip])})")
        available = frames_in_span(length, span, int(path.is_dir()))
        if available < num_frames:
            yield Finding(kinds.FEW_FRAMES, clip, f"{available} of {num_frames} frames ({abbreviate(users[clip])})")


def find_shared_names(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Find files of one name in several folders."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path, name in media_files(source, users).items():
        by_name[path.name].append(name)
    for file_name, names in by_name.items():
        if len(names) > 1:
            yield Finding(kinds.SHARED_NAME, file_name, abbreviate(names))


def find_copies(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Find files with equal contents: one finding for each but the first."""
    files = media_files(source, users)
    paths, names = list(files), list(files.values())
    for first, *others in duplicate_groups(paths):
        for other in others:
            yield Finding(kinds.DUPLICATE_CLIP, names[other], f"same content as {names[first]}")


def find_leaks(training: FileClips, users: ClipUsers, benchmark: FileClips) -> Iterator[Finding]:
    """Find training clips with the content of a benchmark's clip, whatever their names."""
    train_files, test_files = media_files(training, users), media_files(benchmark, benchmark.clips())
    names = [*train_files.values(), *test_files.values()]
    samples: dict[str, list[str]] = defaultdict(list)
    for clip, clip_users in users.items():
        samples[train_files[training.file(clip)[0]]] += clip_users
    for group in duplicate_groups([*train_files, *test_files]):
        tested = abbreviate(names[index] for index in group if index >= len(train_files))
        for index in group:
            if tested and index < len(train_files):
                name = names[index]
                yield Finding(kinds.LEAK, name, f"is the benchmark's {tested} ({abbreviate(samples[name])})")


def media_files(source: FileClips, clips: Iterable[str]) -> dict[Path, str]:
    """Return the file of each clip with its name in the data, without the time span."""
    names: dict[Path, str] = {}
    for clip in clips:
        path, span = source.file(clip)
        names.setdefault(path, clip.removesuffix(span.clip_name("")))
    return names
