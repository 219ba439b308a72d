"""Inspect a video file before decoding: open it within limits, index its packets, detect truncation."""

import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av

from qtablate.errors import BadMedia
from qtablate.video.isolated import decode_timeout

MAX_FRAME_PIXELS = 1 << 26
"""Limit for one decoded frame: twice an 8K picture."""
MAX_PACKETS = 1 << 20
"""Limit for one file: 9 hours at 30 frames per second."""
_PLAYLISTS = ("concat", "hls", "dash")  # formats that name other files, which may lie anywhere


class Packet(NamedTuple):
    """One coded picture, as stored in the container."""

    pts: int | None
    """Presentation time, in units of the stream's time base."""
    pos: int | None
    """Byte offset in the file."""
    size: int
    """Bytes."""
    keyframe: bool
    """Decoding can start here."""
    hidden: bool
    """Decoded but not shown, because an edit list excludes it."""


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The packets of a file's first video stream."""

    packets: tuple[Packet, ...]
    """In decoding order."""
    fps: float
    """Average frames per second."""
    num_frames: int
    """Frames that the file should show."""
    truncated: bool
    """The file is shorter than it declares."""
    time_base: float = 0.0
    """Seconds per unit of the packets' presentation times."""

    def timestamps(self) -> list[float]:
        """Return when each frame is shown, in seconds after the first; by the frame rate where the packets do not say."""
        times = [packet.pts for packet in self.packets if packet.size and not packet.hidden and packet.pts is not None]
        if len(times) != self.num_frames or not self.time_base:
            return [index / self.fps for index in range(self.num_frames)]
        first, *_ = times = sorted(times)
        return [(time - first) * self.time_base for time in times]


def validate_regular_file(path: Path) -> None:
    """Raise BadMedia for a pipe, a socket or a device: opening or reading one may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadMedia("not a file", f"{path} is a pipe, a socket or a device")


@contextmanager
def open_video(path: Path) -> Iterator[Any]:
    """Open a file as a PyAV container with network access disabled.

    Raises:
        BadMedia: the file is not a regular one, is a playlist, or has frames of more than MAX_FRAME_PIXELS.
    """
    validate_regular_file(path)
    with av.open(str(path), options={"protocol_whitelist": "file"}, timeout=decode_timeout()) as container:
        if container.format.name in _PLAYLISTS:
            raise BadMedia("broken video", f"{path} is a playlist of other files")
        for stream in container.streams.video[:1]:
            context = stream.codec_context
            if context.width * context.height > MAX_FRAME_PIXELS:
                size = f"{context.width} x {context.height}"
                raise BadMedia("video too large", f"{path}: frames of {size} pixels, at most {MAX_FRAME_PIXELS:,} are decoded")
            context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # a stream may change its size later on
        yield container


def index_packets(path: Path) -> PacketIndex:
    """Read all packets of a file without decoding them.

    Raises:
        BadMedia: the number of frames is unknown (truncated file) or above MAX_PACKETS.
    """
    with open_video(path) as container:
        if not container.streams.video:
            return PacketIndex((), 1.0, 0, False)
        stream = container.streams.video[0]
        fps = _rate(stream)
        packets: list[Packet] = []
        for packet in container.demux(stream):
            if max(len(packets), stream.frames) > MAX_PACKETS:
                raise BadMedia("video too long", f"{path}: more than {MAX_PACKETS:,} frames")
            packets.append(Packet(packet.pts, packet.pos, packet.size, packet.is_keyframe, packet.is_discard))
        packets.pop()  # demux ends with an empty packet, which flushes the decoder
        # packets rather than the header's count: an edit list hides frames that the header still counts
        filled = [packet for packet in packets if packet.size]
        hidden = sum(packet.hidden for packet in filled)
        count, truncated = len(filled) - hidden, _is_truncated(path, stream)
        if truncated:
            if stream.frames <= hidden + count:  # the original number of frames is unknown, and so is the clip's middle
                raise BadMedia("truncated video", f"{path} ends before its own header says")
            count = stream.frames - hidden  # the declared number, so that the missing frames are noticed
        return PacketIndex(tuple(packets), fps, count, truncated, float(stream.time_base))


@dataclass(frozen=True, slots=True)
class VideoLength:
    """How long a video is."""

    num_frames: int
    fps: float
    """Frames per second."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_frames / self.fps


def read_header_length(path: Path) -> VideoLength | None:
    """Read a file's length from its header alone, without reading packets; None where the header has no length.

    At most one frame off, except for files whose declared rate or duration is not that of their pictures: these seem longer.

    Raises:
        BadMedia: the file cannot be used whatever its packets hold.
    """
    with open_video(path) as container:
        if not container.streams.video:
            raise BadMedia("no frames", f"{path} holds no video frame")
        stream = container.streams.video[0]
        if stream.frames > MAX_PACKETS:
            raise BadMedia("video too long", f"{path}: more than {MAX_PACKETS:,} frames")
        if not stream.frames and _is_truncated(path, stream):
            raise BadMedia("truncated video", f"{path} ends before its own header says")
        fps = _rate(stream)
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base - float((stream.start_time or 0) * stream.time_base)
        else:
            return None
        count = math.ceil(seconds * fps - 1e-3)  # which the header rounds
        return VideoLength(max(1, min(count, stream.frames or count)), fps)


def _rate(stream: Any) -> float:
    """Return frames per second, 1 where the stream has no rate."""
    return float(stream.average_rate or stream.guessed_rate or 0) or 1.0


def _is_truncated(path: Path, stream: Any) -> bool:
    """Return whether the file is shorter than its index (mp4), RIFF header (avi), segment (mkv, webm) or file properties
    (asf, wmv) declare, or lacks its trailer (gif)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, size - 16))
        tail = file.read()
        if head[:16] == _ASF:
            file.seek(0)
            return _asf_size(file.read(min(int.from_bytes(head[16:24], "little"), _MAX_ASF_HEADER))) > size
    if head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size:
        return True
    if head[:4] == b"GIF8" and not tail.rstrip(b"\0").endswith(b"\x3b"):
        return True
    if head[:4] == _EBML and _segment_end(head) > size:
        return True
    return any(entry.pos + entry.size > size for entry in stream.index_entries)


def ends_within_packet(path: Path) -> bool:
    """Return whether an MPEG program stream (mpg, vob) or transport stream (ts) stops in the middle of a packet.

    Such a file, or its recording, was truncated. Neither format declares its length, so a file truncated between two packets
    cannot be told from a complete one. False for any other format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4 * _TS_PACKET)
        if head[:4] == _PACK:
            file.seek(max(0, size - _TAIL))
            return _ends_within_program_packet(file.read())
    marks = head[::_TS_PACKET]
    return len(head) == 4 * _TS_PACKET and set(marks) == {0x47} and size % _TS_PACKET != 0


_PACK, _PROGRAM_END, _START = b"\x00\x00\x01\xba", b"\x00\x00\x01\xb9", b"\x00\x00\x01"  # start codes (ISO 13818-1)
_TS_PACKET, _TAIL = 188, 1 << 18


def _ends_within_program_packet(tail: bytes) -> bool:
    """Return whether the last pack of a program stream has a packet that is longer than the rest of the file."""
    at = tail.rfind(_PACK)
    while at >= 0 and (code := tail[at : at + 4]):
        if code == _PROGRAM_END:
            return False
        if len(code) < 4:
            return _START.startswith(code[:3])
        if code[:3] != _START:
            return False  # not the packets of a program stream: no statement is possible
        if code == _PACK:
            mpeg2 = tail[at + 4 : at + 5] >= b"@"  # its header counts the stuffing after it in its last byte
            at += 12 if not mpeg2 else 14 + (tail[at + 13] & 7) if at + 13 < len(tail) else 14
        else:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
        if at > len(tail):
            return True
    return False


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUIDs of the ASF specification, in file byte order
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MAX_ASF_HEADER = 1 << 24  # bytes


def _asf_size(header: bytes) -> int:
    """Return the file size in bytes that the file properties declare; 0 where they do not, as in a broadcast."""
    at = header.find(_ASF_PROPERTIES)
    properties = header[at : at + 104]
    broadcast = at < 0 or len(properties) < 104 or properties[88] & 1
    return 0 if broadcast else int.from_bytes(properties[40:48], "little")


_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # element ids of Matroska (RFC 9559)


def _segment_end(head: bytes) -> int:
    """Return the offset at which a Matroska file's segment ends by its header; 0 for a stream of unknown length."""
    length, body = _element_size(head, 4)
    at = body + length
    if head[at : at + 4] != _SEGMENT:
        return 0
    length, body = _element_size(head, at + 4)
    return body + length if length else 0


def _element_size(head: bytes, at: int) -> tuple[int, int]:
    """Return (size, offset of the body) of an element whose size field starts at `at`; an unknown size (all bits 1) is 0."""
    first = head[at]
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width
