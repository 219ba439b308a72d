"""Clips as files: what cannot be read, what is too short, and which files are one another's copies."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from qtablate.data import findings as kinds
from qtablate.data.findings import Finding, few
from qtablate.datatypes import Clips
from qtablate.errors import BadMedia
from qtablate.validate.duplicates import duplicate_groups
from qtablate.video.container import ends_within_packet
from qtablate.video.frames import TimeSpan, count_decodable, length_from_header, probe_length, span
from qtablate.video.isolated import run_isolated
from qtablate.video.paths import is_frame

END_SLACK = 1.0  # seconds that a span may end behind its clip: time stamps are rounded

ClipUsers = Mapping[str, Sequence[str]]
"""Clip -> the items or samples that show it."""


class FileClips(Clips, Protocol):
    """Clips that lie in files of their own."""

    def file(self, clip: str) -> tuple[Path, TimeSpan]: ...


def decoded(source: FileClips, clips: Iterable[str], users: ClipUsers) -> Iterator[tuple[str, Finding]]:
    """(clip, finding) of those that cannot be decoded, and of usable ones that give fewer frames than their file lists.
    They are decoded as a sweep does, at the frames that it takes; then, once a file, as a whole."""
    known: set[Path] = set()
    for clip in clips:
        path = source.file(clip)[0]
        try:
            source.frames(clip)
        except BadMedia as problem:
            yield clip, _unusable(path, clip, problem, users)
            continue
        if path.is_file() and not is_frame(path) and path not in known:
            known.add(path)
            with suppress(BadMedia):  # a whole file may take too long where the frames of a span do not
                count, given = run_isolated(path, count_decodable, path)
                if given < count:
                    yield (
                        clip,
                        Finding(kinds.LOST_FRAMES, clip, f"{given} of {count} frames can be decoded ({few(users[clip])})"),
                    )


def torn(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Files that end in the middle of a packet where no header says how long they should be."""
    for path, name in files(source, users).items():
        if path.is_file() and ends_within_packet(path):
            yield Finding(kinds.TORN, name, f"{path.stat().st_size:,} bytes")


def _unusable(path: Path, clip: str, problem: BadMedia, users: ClipUsers) -> Finding:
    detail = problem.detail.removeprefix(str(path)).lstrip(": ").replace(str(path), path.name)
    return Finding(problem.kind, clip, f"{detail} ({few(users[clip])})")


def headers(
    source: FileClips, clips: Iterable[str], users: ClipUsers
) -> Iterator[tuple[str, Finding | tuple[int, float] | None]]:
    """(clip, what its header tells): frames and frames a second, why it cannot be used, or None. Pictures are left aside."""
    for clip in clips:
        path, bounds = source.file(clip)
        if not _is_picture(path):
            try:
                yield clip, run_isolated(path, length_from_header, path, bounds)
            except BadMedia as problem:
                yield clip, _unusable(path, clip, problem, users)


def lengths(source: FileClips, clips: Iterable[str]) -> Iterator[tuple[str, tuple[int, float]]]:
    """(clip, its frames and frames a second), of pictures none."""
    known: dict[Path, tuple[int, float]] = {}
    for clip in clips:
        path = source.file(clip)[0]
        if not _is_picture(path):
            known[path] = known.get(path) or probe_length(path)
            yield clip, known[path]


def _is_picture(path: Path) -> bool:
    return is_frame(path) and path.is_file()


def short(source: FileClips, told: Iterable[tuple[str, tuple[int, float]]], users: ClipUsers, wanted: int) -> Iterator[Finding]:
    """Clips or spans with fewer frames than wanted, and spans that end behind their clip, by lengths that were `told`."""
    for clip, (count, fps) in told:
        path, bounds = source.file(clip)
        if bounds.end is not None and bounds.end > count / fps + END_SLACK:
            detail = f"ends at {bounds.end:g} s of {count / fps:.1f} s"
            yield Finding(kinds.END_PAST, clip, f"{detail} ({few(users[clip])})")
        frames = span(count, fps, bounds, int(path.is_dir()))
        if frames < wanted:
            yield Finding(kinds.FEW_FRAMES, clip, f"{frames} of {wanted} frames ({few(users[clip])})")


def same_names(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Files of one name in several folders."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, name in files(source, users).items():
        places[path.name].append(name)
    for name, found in places.items():
        if len(found) > 1:
            yield Finding(kinds.SAME_NAME, name, few(found))


def copies(source: FileClips, users: ClipUsers) -> Iterator[Finding]:
    """Files of one content under several names: a finding for each but the first."""
    found = files(source, users)
    paths, names = list(found), list(found.values())
    for first, *others in duplicate_groups(paths):
        for other in others:
            yield Finding(kinds.TWINS, names[other], f"same content as {names[first]}")


def leaks(training: FileClips, users: ClipUsers, benchmark: FileClips) -> Iterator[Finding]:
    """Training clips whose content is that of a benchmark's clip, whatever the names."""
    trained, asked = files(training, users), files(benchmark, benchmark.clips())
    names = [*trained.values(), *asked.values()]
    shown: dict[str, list[str]] = defaultdict(list)
    for clip, of in users.items():
        shown[trained[training.file(clip)[0]]] += of
    for group in duplicate_groups([*trained, *asked]):
        held_out = few(names[index] for index in group if index >= len(trained))
        for index in group:
            if held_out and index < len(trained):
                yield Finding(kinds.LEAK, names[index], f"is the benchmark's {held_out} ({few(shown[names[index]])})")


def files(source: FileClips, clips: Iterable[str]) -> dict[Path, str]:
    """Each file behind the clips with the name it has in the data, bounds aside."""
    out: dict[Path, str] = {}
    for clip in clips:
        path, bounds = source.file(clip)
        out.setdefault(path, clip.removesuffix(bounds.named("")))
    return out
