"""Video files of every kind that decoding must be exact for. Each has 60 frames of moving noise unless said otherwise."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

FRAMES = 60
RATE = 10


@dataclass(frozen=True)
class Kind:
    """How a file is written."""

    suffix: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    pix: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    """Width and height."""
    frames: int = FRAMES
    stamps: Callable[[int], int] = lambda n: n
    """Time of frame n in ticks of 1 / RATE."""
    seekable: bool = True
    """Seeking is exact, so that nothing need be decoded from the start."""
    change: Callable[[Path], Path] | None = None
    """What is done to the file once it is written."""


def moving(frames: int, size: tuple[int, int], cut: int = 0, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames (height, width, 3): texture that drifts, a gradient and fresh noise; with `cut`, another scene after as many."""
    width, height = size
    dice = np.random.default_rng(seed)
    for n in range(frames):
        if n == 0 or (cut and n % cut == 0):
            coarse = dice.integers(0, 256, (max(2, height // 8), max(2, width // 4), 3), dtype=np.uint8)
            scene = np.asarray(Image.fromarray(coarse).resize((2 * width, height), Image.Resampling.BICUBIC))
        frame = np.roll(scene, -3 * n, axis=1)[:, :width].copy()
        frame[:, : width // 3, 1] = (np.arange(height)[:, None] + 2 * n) % 256
        corner = frame[height // 2 :, width // 2 :]
        corner[:] = corner // 2 + dice.integers(0, 24, (*corner.shape[:2], 1), dtype=np.uint8)
        yield frame


def write(path: Path, kind: Kind, frames: Sequence[np.ndarray] | Iterator[np.ndarray] | None = None, rate: int = RATE) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(kind.codec, rate=rate, options=kind.options)
        stream.width, stream.height, stream.pix_fmt = *kind.size, kind.pix
        for n, pixels in enumerate(moving(kind.frames, kind.size) if frames is None else frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=kind.pix)
            frame.pts, frame.time_base = kind.stamps(n), Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return kind.change(path) if kind.change else path


def with_matrix(a: int, b: int, c: int, d: int) -> Callable[[Path], Path]:
    """An mp4 whose track header says that the pixel at (x, y) is shown at (a x + c y, b x + d y)."""

    def change(path: Path) -> Path:
        content, one = path.read_bytes(), 1 << 16
        identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
        at = content.index(identity, content.index(b"tkhd"))
        matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        path.write_bytes(content[:at] + matrix + content[at + len(matrix) :])
        return path

    return change


def cut_by_edit_list(path: Path) -> Path:
    """The same packets, 1.7 s earlier: an edit list hides those before 0, which lie in the middle of a group of pictures."""
    out = path.with_stem("cut")
    with av.open(str(path)) as source, av.open(str(out), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        offset = int(Fraction(17, RATE) / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, stream
                target.mux(packet)
    return out


B_FRAMES = {"bf": "3", "g": "12"}
OPEN = B_FRAMES | {"x264-params": "open-gop=1:scenecut=0:b-adapt=0"}


def irregular(n: int) -> int:
    return n * (n + 3) // 4 + n


KINDS = {
    "mp4, closed groups with B-frames": Kind(".mp4", options=B_FRAMES),
    "mp4, open groups": Kind(".mp4", options=OPEN),
    "mp4, no B-frames": Kind(".mp4", options={"bf": "0", "g": "12"}),
    "mp4, one keyframe": Kind(".mp4", options={"bf": "3", "g": "600"}),
    "mp4, variable frame rate": Kind(".mp4", options=B_FRAMES, stamps=irregular),
    "mp4, first time is 7 s": Kind(".mp4", options=B_FRAMES, stamps=lambda n: n + 70),
    "mp4, edit list": Kind(".mp4", options=B_FRAMES, change=cut_by_edit_list),
    "mp4, turned by 90": Kind(".mp4", options=B_FRAMES, change=with_matrix(0, 1, -1, 0)),
    "mp4, turned by 270": Kind(".mp4", options=B_FRAMES, change=with_matrix(0, -1, 1, 0)),
    "mp4, turned by 180": Kind(".mp4", options=B_FRAMES, change=with_matrix(-1, 0, 0, -1)),
    "mp4, odd size": Kind(".mp4", options=B_FRAMES, pix="yuv444p", size=(67, 45)),
    "mp4, 10 bits": Kind(".mp4", options=B_FRAMES, pix="yuv420p10le"),
    "mp4, interlaced": Kind(".mp4", options=B_FRAMES | {"x264-params": "tff=1"}, seekable=False),
    "mp4, one frame": Kind(".mp4", frames=1, seekable=False),
    "mp4, intra refresh": Kind(".mp4", options={"x264-params": "intra-refresh=1:keyint=20"}, seekable=False),
    "mp4, hevc with open groups": Kind(
        ".mp4", "libx265", {"preset": "ultrafast", "x265-params": "keyint=12:open-gop=1:bframes=3:log-level=none"}
    ),
    "mkv, open groups": Kind(".mkv", options=OPEN),
    "mkv, first time is 7 s": Kind(".mkv", options=B_FRAMES, stamps=lambda n: n + 70),
    "webm, vp8": Kind(".webm", "libvpx", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "webm, vp9": Kind(".webm", "libvpx-vp9", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "webm, variable frame rate": Kind(".webm", "libvpx", {"g": "20", "deadline": "realtime"}, stamps=irregular),
    "avi, mpeg4 with B-frames": Kind(".avi", "mpeg4", {"bf": "2", "g": "12"}),
    "avi, motion jpeg": Kind(".avi", "mjpeg", pix="yuvj420p"),
    "avi, h264 in open groups": Kind(".avi", options=OPEN, seekable=False),
    "gif": Kind(".gif", "gif", pix="rgb8"),
    "mpeg-ts, h264": Kind(".ts", options=B_FRAMES, seekable=False),
    "mpeg-ts, mpeg2": Kind(".ts", "mpeg2video", {"bf": "2", "g": "12"}, seekable=False),
}
