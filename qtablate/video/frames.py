"""Real media: which frames are taken from a clip, and how they are sized.

Sampling and sizing follow VideoChat2's evaluation (facts: mvbench.md); decoder.py decodes.
"""

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from qtablate.datatypes import IMAGE, Frames
from qtablate.errors import BadMedia, DataError
from qtablate.video.container import index_packets, read_header_length, validate_regular_file
from qtablate.video.decoder import count, decode_frames
from qtablate.video.isolated import DECODE_TIMEOUT, run_isolated
from qtablate.video.paths import is_frame, state

FOLDER_FPS = 3.0  # of MVBench's frame folders
_MOST_PIXELS = 1 << 26  # of a resized picture: one a pixel high and thousands wide is enlarged before its square is cut
_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The span of a clip that a question is about, in seconds; None is open."""

    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The bounds in an entry of a data file. Raises BadMedia when they are no span."""
        found = {name: entry.get(name) for name in ("start", "end")}
        for name, value in found.items():
            if value is not None and not (type(value) in (int, float) and abs(value) < 1e9):
                raise BadMedia("malformed bounds", f"'{name}' should be seconds, is {value!r:.40}")
            if value is not None and name == "end" and value <= 0:
                raise BadMedia("empty bounds", f"end {value:g} s is not behind the clip's beginning")
        if found["start"] is not None and found["end"] is not None and found["end"] <= found["start"]:
            raise BadMedia("empty bounds", f"start {found['start']:g} s is not before end {found['end']:g} s")
        return cls(**found)

    def named(self, media: str) -> str:
        """A clip's name: its file, and the bounds where there are any, since both decide its frames."""
        return media if self == TimeSpan() else f"{media} [{self.start}-{self.end} s]"


def frame_indices(count: int, fps: float, wanted: int, bounds: TimeSpan = TimeSpan(), first: int = 0) -> list[int]:
    """Which frames of a clip are taken: the middle of each of `wanted` equal segments.

    The formula of the original's notebook (`get_index`), with both roundings half to even. Indices are clamped to the
    clip: a start beyond its end gives reversed, out-of-range indices in the original.

    Args:
        count: frames of the clip. Files count from 0 to count - 1, frame folders (`first` = 1) from 1 to count.
    """
    start, end, last = _ends(count, fps, bounds, first)
    segment = (end - start) / wanted
    indices = [int(start + segment / 2 + np.round(segment * k)) for k in range(wanted)]
    return [min(max(index, first), last) for index in indices]


def span(count: int, fps: float, bounds: TimeSpan = TimeSpan(), first: int = 0) -> int:
    """How many frames of a clip there are to choose from, at least one: `count`, or those within the bounds."""
    start, end, _ = _ends(count, fps, bounds, first)
    return max(1, end - start + 1)


def _ends(count: int, fps: float, bounds: TimeSpan, first: int) -> tuple[int, int, int]:
    """The first and last frame of the span as the notebook has them, and the last of the clip."""
    last = count - 1 if first == 0 else count
    start = max(first, round((-100000 if bounds.start is None else bounds.start) * fps))
    end = min(round((100000 if bounds.end is None else bounds.end) * fps), last)
    return start, end, last


def resize_center_crop(frame: Image.Image, side: int) -> Image.Image:
    """Bicubic resize of the short side to `side`, then the centre square. Raises ValueError for a mere line."""
    width, height = frame.size
    shorter = min(width, height)
    size = (max(side, int(side * width / shorter)), max(side, int(side * height / shorter)))
    if size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels is too long a strip: sized to {side} it would have {size[0] * size[1]:,}")
    if frame.mode == "P" and "transparency" in frame.info:
        frame = frame.convert("RGBA")
    frame = frame.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return frame.crop((left, top, left + side, top + side))


def upscale(frame: Frames, scale: int) -> Frames:
    """Each pixel as a square of scale x scale."""
    return np.repeat(np.repeat(frame, scale, axis=-3), scale, axis=-2)


def read_image(path: Path, side: int) -> Frames:
    """(1, side, side, 3). Raises BadMedia."""
    try:
        validate_regular_file(path)
        with Image.open(path) as image:
            return np.asarray(resize_center_crop(image, side))[None]
    except FileNotFoundError:
        raise BadMedia("missing image", str(path)) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        _refuse("broken image", path, error)


def read_clip(path: Path, wanted: int, side: int, bounds: TimeSpan = TimeSpan()) -> Frames:
    """Sampled frames of a video file or a folder of frames: (wanted, side, side, 3). Raises BadMedia."""
    if path.is_dir():
        return _read_folder(path, wanted, side, bounds)
    if not path.exists():
        raise BadMedia("missing video", str(path))
    return _read_file(path, wanted, side, bounds)


def frame_times(path: Path, wanted: int, bounds: TimeSpan = TimeSpan()) -> tuple[float, ...]:
    """Seconds from the clip's beginning at which the frames that `read_clip` takes are shown. Raises BadMedia."""
    if path.is_dir():
        return tuple(n / FOLDER_FPS for n in _checked(len(frame_files(path)), FOLDER_FPS, wanted, bounds, 1, path))
    try:
        listing = index_packets(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        _refuse("broken video", path, error)
    seconds = listing.seconds()
    return tuple(seconds[n] for n in _checked(listing.count, listing.fps, wanted, bounds, 0, path))


def frame_files(path: Path) -> list[Path]:
    """The pictures of a folder of frames, in their order."""
    return sorted((entry for entry in path.iterdir() if is_frame(entry)), key=_numbered)


def probe_length(path: Path) -> tuple[int, float]:
    """Frames and frames a second of a video file or a folder of frames, undecoded. Raises BadMedia."""
    if path.is_dir():
        return len(frame_files(path)), FOLDER_FPS
    try:
        listing = index_packets(path)
        return listing.count, listing.fps
    except (av.FFmpegError, ValueError, OSError) as error:
        _refuse("broken video", path, error)


def count_decodable(path: Path) -> tuple[int, int]:
    """(frames that a video file lists, frames that decoding all of it gives). Raises BadMedia."""
    try:
        return index_packets(path).count, count(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        _refuse("broken video", path, error)


def length_from_header(path: Path, bounds: TimeSpan = TimeSpan()) -> tuple[int, float] | None:
    """As `probe_length`, from a file's header alone; None where it tells no length. Raises BadMedia."""
    try:
        length = probe_length(path) if path.is_dir() else read_header_length(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        _refuse("broken video", path, error)
    if length and not length[0]:
        raise BadMedia("no frames", f"{path} holds no image")
    if length:
        _checked(*length, 1, bounds, int(path.is_dir()), path)
    return length


@dataclass(frozen=True, slots=True)
class Clip:
    """A file or a folder of frames, as it is shown."""

    path: Path
    medium: str
    bounds: TimeSpan

    def key(self, frames: int, side: int) -> str:
        """Of its pixels at this length and size: its full path, size and time, and span."""
        count = 1 if self.medium == IMAGE else frames
        return f"{self.path.resolve()}|{state(self.path).hex()}|{self.bounds.start}-{self.bounds.end}|{count}|{side}"

    def read(self, frames: int, side: int) -> Frames:
        """In a process of its own, within a limit. Raises BadMedia."""
        if self.medium == IMAGE:
            return run_isolated(self.path, read_image, self.path, side)
        return run_isolated(self.path, read_clip, self.path, frames, side, self.bounds)

    def seconds(self, frames: int) -> tuple[float, ...]:
        """When each of these frames is shown; of an image, none. Raises BadMedia."""
        return () if self.medium == IMAGE else run_isolated(self.path, frame_times, self.path, frames, self.bounds)


def _read_folder(path: Path, wanted: int, side: int, bounds: TimeSpan) -> Frames:
    names = frame_files(path)
    if not names:
        raise BadMedia("no frames", f"{path} holds no image")
    indices = _checked(len(names), FOLDER_FPS, wanted, bounds, 1, path)
    return np.concatenate([read_image(names[index - 1], side) for index in indices])


def _numbered(path: Path) -> list[tuple[int, str]]:
    """For sorting: 2.jpg comes before 10.jpg, padded or not."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _refuse(kind: str, path: Path, error: Exception) -> NoReturn:
    """A bad clip is left out by name; a machine out of files or memory says nothing about the clip and stops the run."""
    if getattr(error, "errno", None) in _MACHINE:
        raise DataError(f"{path} cannot be read on this machine now: {error}; the clip may be fine, run again") from None
    if getattr(error, "errno", None) == errno.ETIMEDOUT or isinstance(error, av.error.ExitError):  # which is how PyAV times out
        raise BadMedia(DECODE_TIMEOUT, f"{path}: {error}") from None
    raise BadMedia(kind, f"{path}: {error}") from None


def _read_file(path: Path, wanted: int, side: int, bounds: TimeSpan) -> Frames:
    try:
        listing = index_packets(path)
        count = listing.count
        if count == 0:
            raise BadMedia("no frames", f"{path} holds no video frame")
        indices = _checked(count, listing.fps, wanted, bounds, 0, path)
        found = decode_frames(path, listing, set(indices), lambda image: np.asarray(resize_center_crop(image, side)))
    except (av.FFmpegError, ValueError, OSError) as error:
        _refuse("broken video", path, error)
    lost = sorted(set(indices) - set(found))
    if lost:
        raise BadMedia("truncated video", f"{path}: frame {lost[0]} of {count} cannot be decoded")
    return np.stack([found[index] for index in indices])


def _checked(count: int, fps: float, wanted: int, bounds: TimeSpan, first: int, path: Path) -> Sequence[int]:
    if bounds.start is not None and round(bounds.start * fps) > count - 1 + first:
        raise BadMedia("bounds past the end", f"{path}: starts at {bounds.start:g} s of {count / fps:.1f} s")
    return frame_indices(count, fps, wanted, bounds, first)
