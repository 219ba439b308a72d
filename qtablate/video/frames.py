"""Sample frames from clips and resize them, as VideoChat2's evaluation does (facts: mvbench.md); decoder.py decodes."""

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from qtablate.datatypes import IMAGE, Frames
from qtablate.errors import BadMedia, DataError
from qtablate.video.container import VideoLength, index_packets, read_header_length, validate_regular_file
from qtablate.video.decoder import count_decoded_frames, decode_frames
from qtablate.video.isolated import DECODE_TIMEOUT, run_isolated
from qtablate.video.paths import file_state, is_frame

FOLDER_FPS = 3.0
"""Frames per second of MVBench's frame folders."""
_MAX_PIXELS = 1 << 26  # of a resized picture: one a pixel high and thousands wide is enlarged before its square is cropped
_MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The part of a clip that a question is about, in seconds; None is open."""

    start: float | None = None
    end: float | None = None

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Read 'start' and 'end' of an entry in a data file.

        Raises:
            BadMedia: they are not numbers, or the span between them is empty.
        """
        span = {name: entry.get(name) for name in ("start", "end")}
        for name, value in span.items():
            if value is not None and not (type(value) in (int, float) and abs(value) < 1e9):
                raise BadMedia("malformed time span", f"'{name}' should be seconds, is {value!r:.40}")
            if value is not None and name == "end" and value <= 0:
                raise BadMedia("empty time span", f"end {value:g} s is not after the clip's beginning")
        if span["start"] is not None and span["end"] is not None and span["end"] <= span["start"]:
            raise BadMedia("empty time span", f"start {span['start']:g} s is not before end {span['end']:g} s")
        return cls(**span)

    def clip_name(self, media: str) -> str:
        """Return a clip's name: its file, with the span unless it is open, since both decide the clip's frames."""
        return media if self == TimeSpan() else f"{media} [{self.start}-{self.end} s]"


def frame_indices(count: int, fps: float, num_frames: int, span: TimeSpan = TimeSpan(), first: int = 0) -> list[int]:
    """Return which frames of a clip are sampled: the middle one of each of `num_frames` equal segments.

    This is the formula of VideoChat2's notebook (`get_index`), with both roundings half to even. Indices are clamped to the
    clip: in the notebook, a start beyond the clip's end gives reversed, out-of-range indices.

    Args:
        count: frames of the clip. Files count from 0 to count - 1, frame folders (`first` = 1) from 1 to count.
    """
    start, end, last = _span_limits(count, fps, span, first)
    segment = (end - start) / num_frames
    indices = [int(start + segment / 2 + np.round(segment * k)) for k in range(num_frames)]
    return [min(max(index, first), last) for index in indices]


def frames_in_span(length: VideoLength, span: TimeSpan = TimeSpan(), first: int = 0) -> int:
    """Return how many frames the sampling can choose from, at least one. `first`: as in `frame_indices`."""
    start, end, _ = _span_limits(length.num_frames, length.fps, span, first)
    return max(1, end - start + 1)


def _span_limits(count: int, fps: float, span: TimeSpan, first: int) -> tuple[int, int, int]:
    """Return the first and last frame of the span, as the notebook computes them, and the last frame of the clip."""
    last = count - 1 if first == 0 else count
    start = max(first, round((-100000 if span.start is None else span.start) * fps))
    end = min(round((100000 if span.end is None else span.end) * fps), last)
    return start, end, last


def resize_center_crop(frame: Image.Image, image_size: int) -> Image.Image:
    """Resize the short side to `image_size` pixels (bicubic) and crop the central square as RGB.

    Raises:
        ValueError: the picture is so long and thin that resizing would need more than 2^26 pixels.
    """
    width, height = frame.size
    shorter = min(width, height)
    size = (max(image_size, int(image_size * width / shorter)), max(image_size, int(image_size * height / shorter)))
    if size[0] * size[1] > _MAX_PIXELS:
        pixels = f"{size[0] * size[1]:,}"
        raise ValueError(f"{width} x {height} pixels is too long a strip: resized to {image_size} it would have {pixels}")
    if frame.mode == "P" and "transparency" in frame.info:
        frame = frame.convert("RGBA")
    frame = frame.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - image_size) / 2), round((size[1] - image_size) / 2)
    return frame.crop((left, top, left + image_size, top + image_size))


def upscale(frames: Frames, factor: int) -> Frames:
    """Repeat each pixel as a square of factor x factor: (..., H, W, 3) -> (..., factor H, factor W, 3)."""
    return np.repeat(np.repeat(frames, factor, axis=-3), factor, axis=-2)


def read_image(path: Path, image_size: int) -> Frames:
    """Read an image as (1, image_size, image_size, 3) RGB bytes. Raises BadMedia."""
    try:
        validate_regular_file(path)
        with Image.open(path) as image:
            return np.asarray(resize_center_crop(image, image_size))[None]
    except FileNotFoundError:
        raise BadMedia("missing image", str(path)) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        _raise_unreadable("broken image", path, error)


def read_clip(path: Path, num_frames: int, image_size: int, span: TimeSpan = TimeSpan()) -> Frames:
    """Sample a video file or a folder of frames: (num_frames, image_size, image_size, 3) RGB bytes. Raises BadMedia."""
    if path.is_dir():
        return _read_folder(path, num_frames, image_size, span)
    if not path.exists():
        raise BadMedia("missing video", str(path))
    return _read_file(path, num_frames, image_size, span)


def frame_times(path: Path, num_frames: int, span: TimeSpan = TimeSpan()) -> tuple[float, ...]:
    """Return when the frames that `read_clip` samples are shown, in seconds from the clip's beginning. Raises BadMedia."""
    if path.is_dir():
        length = VideoLength(len(frame_files(path)), FOLDER_FPS)
        return tuple(n / FOLDER_FPS for n in _sample(length, num_frames, span, 1, path))
    try:
        index = index_packets(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_unreadable("broken video", path, error)
    seconds = index.timestamps()
    return tuple(seconds[n] for n in _sample(VideoLength(index.num_frames, index.fps), num_frames, span, 0, path))


def frame_files(path: Path) -> list[Path]:
    """Return the images of a folder of frames, ordered by the numbers in their names."""
    return sorted((entry for entry in path.iterdir() if is_frame(entry)), key=_natural_key)


def probe_length(path: Path) -> VideoLength:
    """Return the length of a video file or a folder of frames, without decoding. Raises BadMedia."""
    if path.is_dir():
        return VideoLength(len(frame_files(path)), FOLDER_FPS)
    try:
        index = index_packets(path)
        return VideoLength(index.num_frames, index.fps)
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_unreadable("broken video", path, error)


class FrameCounts(NamedTuple):
    """Frames of a video file."""

    listed: int
    """By the container's packets."""
    decoded: int
    """That a decode of the whole file gives."""


def count_frames(path: Path) -> FrameCounts:
    """Compare the number of frames in a video file's index with those that can be decoded. Raises BadMedia."""
    try:
        return FrameCounts(index_packets(path).num_frames, count_decoded_frames(path))
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_unreadable("broken video", path, error)


def length_from_header(path: Path, span: TimeSpan = TimeSpan()) -> VideoLength | None:
    """Return the length by a file's header alone, None where the header has none; a folder's frames are counted.

    Raises:
        BadMedia: the header shows that the clip cannot be used, or the span starts after the clip's end.
    """
    try:
        length = probe_length(path) if path.is_dir() else read_header_length(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_unreadable("broken video", path, error)
    if length and not length.num_frames:
        raise BadMedia("no frames", f"{path} holds no image")
    if length:
        _sample(length, 1, span, int(path.is_dir()), path)
    return length


@dataclass(frozen=True, slots=True)
class Clip:
    """A media file or a folder of frames, with the part of it that is shown."""

    path: Path
    medium: str
    span: TimeSpan

    def key(self, num_frames: int, image_size: int) -> str:
        """Identify the clip's pixels at this length and size: its full path, file size and time, and span."""
        count = 1 if self.medium == IMAGE else num_frames
        state = file_state(self.path).hex()
        return f"{self.path.resolve()}|{state}|{self.span.start}-{self.span.end}|{count}|{image_size}"

    def read(self, num_frames: int, image_size: int) -> Frames:
        """Decode in an isolated process: (num_frames, image_size, image_size, 3), of an image one frame. Raises BadMedia."""
        if self.medium == IMAGE:
            return run_isolated(self.path, read_image, self.path, image_size)
        return run_isolated(self.path, read_clip, self.path, num_frames, image_size, self.span)

    def seconds(self, num_frames: int) -> tuple[float, ...]:
        """Return when each sampled frame is shown, in seconds; of an image, nothing. Raises BadMedia."""
        return () if self.medium == IMAGE else run_isolated(self.path, frame_times, self.path, num_frames, self.span)


def _read_folder(path: Path, num_frames: int, image_size: int, span: TimeSpan) -> Frames:
    """Sample a folder of frames. Raises BadMedia."""
    files = frame_files(path)
    if not files:
        raise BadMedia("no frames", f"{path} holds no image")
    indices = _sample(VideoLength(len(files), FOLDER_FPS), num_frames, span, 1, path)
    return np.concatenate([read_image(files[index - 1], image_size) for index in indices])


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key: 2.jpg comes before 10.jpg, padded or not."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _raise_unreadable(kind: str, path: Path, error: Exception) -> NoReturn:
    """Raise BadMedia for a bad clip, which is left out by name, and DataError where the machine is at fault.

    A machine that is out of files or memory says nothing about the clip, so the run ends.
    """
    if getattr(error, "errno", None) in _MACHINE_ERRORS:
        raise DataError(f"{path} cannot be read on this machine now: {error}; the clip may be fine, run again") from None
    if getattr(error, "errno", None) == errno.ETIMEDOUT or isinstance(error, av.error.ExitError):  # PyAV's two kinds of timeout
        raise BadMedia(DECODE_TIMEOUT, f"{path}: {error}") from None
    raise BadMedia(kind, f"{path}: {error}") from None


def _read_file(path: Path, num_frames: int, image_size: int, span: TimeSpan) -> Frames:
    """Sample a video file. Raises BadMedia."""
    try:
        index = index_packets(path)
        if index.num_frames == 0:
            raise BadMedia("no frames", f"{path} holds no video frame")
        wanted = _sample(VideoLength(index.num_frames, index.fps), num_frames, span, 0, path)
        frames = decode_frames(path, index, set(wanted), lambda image: np.asarray(resize_center_crop(image, image_size)))
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_unreadable("broken video", path, error)
    missing = sorted(set(wanted) - set(frames))
    if missing:
        raise BadMedia("truncated video", f"{path}: frame {missing[0]} of {index.num_frames} cannot be decoded")
    return np.stack([frames[number] for number in wanted])


def _sample(length: VideoLength, num_frames: int, span: TimeSpan, first: int, path: Path) -> Sequence[int]:
    """Return `frame_indices`. Raises BadMedia where the span starts after the clip's end."""
    if span.start is not None and round(span.start * length.fps) > length.num_frames - 1 + first:
        raise BadMedia("start past the end", f"{path}: starts at {span.start:g} s of {length.seconds:.1f} s")
    return frame_indices(length.num_frames, length.fps, num_frames, span, first)
