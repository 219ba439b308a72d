"""A video file before it is decoded: opened within bounds, its packets listed, whether it was cut."""

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
"""Of one decoded frame: twice an 8K picture."""
MAX_PACKETS = 1 << 20
"""Of one file: 9 hours at 30 frames a second."""
_LISTS = ("concat", "hls", "dash")  # formats that name other files, which may lie anywhere


class Packet(NamedTuple):
    """One coded picture, as the container has it."""

    pts: int | None
    """When its picture is shown, in the stream's time base."""
    pos: int | None
    """Where it lies in the file."""
    size: int
    key: bool
    """Decoding may start here."""
    hidden: bool
    """Decoded and not shown, as an edit list has it."""


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """What a file holds."""

    packets: tuple[Packet, ...]
    """In the order in which they are decoded."""
    fps: float
    count: int
    """Frames that the file should show."""
    cut: bool
    """The file is shorter than it says."""
    tick: float = 0.0
    """Seconds of a step of the packets' times."""

    def seconds(self) -> list[float]:
        """When each frame is shown, from the first one on; where the file does not tell, as its rate has it."""
        times = [packet.pts for packet in self.packets if packet.size and not packet.hidden and packet.pts is not None]
        if len(times) != self.count or not self.tick:
            return [index / self.fps for index in range(self.count)]
        first, *_ = times = sorted(times)
        return [(time - first) * self.tick for time in times]


def validate_regular_file(path: Path) -> None:
    """Raises BadMedia for a pipe, a socket or a device: to open or to read one may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadMedia("not a file", f"{path} is a pipe, a socket or a device")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as a PyAV container, nothing of which comes over a network. Raises BadMedia for what is not to be decoded."""
    validate_regular_file(path)
    with av.open(str(path), options={"protocol_whitelist": "file"}, timeout=decode_timeout()) as container:
        if container.format.name in _LISTS:
            raise BadMedia("broken video", f"{path} is a list of other files")
        for stream in container.streams.video[:1]:
            context = stream.codec_context
            if context.width * context.height > MAX_FRAME_PIXELS:
                size = f"{context.width} x {context.height}"
                raise BadMedia("video too large", f"{path}: frames of {size} pixels, at most {MAX_FRAME_PIXELS:,} are decoded")
            context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # a stream may change its size later on
        yield container


def index_packets(path: Path) -> PacketIndex:
    """Raises BadMedia where the number of frames cannot be told or is absurd."""
    with opened(path) as container:
        if not container.streams.video:
            return PacketIndex((), 1.0, 0, False)
        stream = container.streams.video[0]
        fps = _rate(stream)
        packets: list[Packet] = []
        for packet in container.demux(stream):
            if max(len(packets), stream.frames) > MAX_PACKETS:
                raise BadMedia("video too long", f"{path}: more than {MAX_PACKETS:,} frames")
            packets.append(Packet(packet.pts, packet.pos, packet.size, packet.is_keyframe, packet.is_discard))
        packets.pop()  # demux ends with an empty one, which flushes the decoder
        # packets rather than the header's count: an edit list hides frames that the header still counts
        filled = [packet for packet in packets if packet.size]
        hidden = sum(packet.hidden for packet in filled)
        count, cut = len(filled) - hidden, _is_cut(path, stream)
        if cut:
            if stream.frames <= hidden + count:  # nothing says how many there were, so no middle can be told
                raise BadMedia("truncated video", f"{path} ends before its own header says")
            count = stream.frames - hidden  # what should be there, so that what is not is missed
        return PacketIndex(tuple(packets), fps, count, cut, float(stream.time_base))


def read_header_length(path: Path) -> tuple[int, float] | None:
    """(frames, frames a second) as a file's header tells them: no packet is read. At most a frame off, but for files whose
    rate or end is that of something else than their pictures, which seem longer; None where it tells no length.

    Raises BadMedia for what cannot be used whatever the packets hold.
    """
    with opened(path) as container:
        if not container.streams.video:
            raise BadMedia("no frames", f"{path} holds no video frame")
        stream = container.streams.video[0]
        if stream.frames > MAX_PACKETS:
            raise BadMedia("video too long", f"{path}: more than {MAX_PACKETS:,} frames")
        if not stream.frames and _is_cut(path, stream):
            raise BadMedia("truncated video", f"{path} ends before its own header says")
        fps = _rate(stream)
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base - float((stream.start_time or 0) * stream.time_base)
        else:
            return None
        count = math.ceil(seconds * fps - 1e-3)  # which the header rounds
        return max(1, min(count, stream.frames or count)), fps


def _rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0) or 1.0


def _is_cut(path: Path, stream: Any) -> bool:
    """Whether the file is shorter than its own index (mp4), RIFF header (avi) or segment (mkv, webm) says, or lacks its
    trailer (gif), or than its file properties say (asf, wmv)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, size - 16))
        tail = file.read()
        if head[:16] == _ASF:
            file.seek(0)
            return _asf_size(file.read(min(int.from_bytes(head[16:24], "little"), _MOST_HEADER))) > size
    if head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size:
        return True
    if head[:4] == b"GIF8" and not tail.rstrip(b"\0").endswith(b"\x3b"):
        return True
    if head[:4] == _EBML and _segment_end(head) > size:
        return True
    return any(entry.pos + entry.size > size for entry in stream.index_entries)


def ends_within_packet(path: Path) -> bool:
    """Whether an MPEG program stream (mpg, vob) or transport stream (ts) stops in the middle of a packet: it was cut there, or
    its recording was. Neither says how long it should be, so one that was cut between two packets cannot be told from a
    whole one. False for any other file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4 * _TS_PACKET)
        if head[:4] == _PACK:
            file.seek(max(0, size - _TAIL))
            return _program_is_torn(file.read())
    marks = head[::_TS_PACKET]
    return len(head) == 4 * _TS_PACKET and set(marks) == {0x47} and size % _TS_PACKET != 0


_PACK, _PROGRAM_END, _START = b"\x00\x00\x01\xba", b"\x00\x00\x01\xb9", b"\x00\x00\x01"  # start codes (ISO 13818-1)
_TS_PACKET, _TAIL = 188, 1 << 18


def _program_is_torn(tail: bytes) -> bool:
    """Whether the last pack of a program stream has a packet that is longer than what is left of the file."""
    at = tail.rfind(_PACK)
    while at >= 0 and (code := tail[at : at + 4]):
        if code == _PROGRAM_END:
            return False
        if len(code) < 4:
            return _START.startswith(code[:3])
        if code[:3] != _START:
            return False  # not the packets of a program stream: nothing can be told
        if code == _PACK:
            newer = tail[at + 4 : at + 5] >= b"@"  # MPEG-2's header counts the stuffing behind it in its last byte
            at += 12 if not newer else 14 + (tail[at + 13] & 7) if at + 13 < len(tail) else 14
        else:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
        if at > len(tail):
            return True
    return False


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUIDs of the ASF specification, as they lie in a file
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MOST_HEADER = 1 << 24


def _asf_size(header: bytes) -> int:
    """Bytes of the whole file by its file properties; 0 where they do not tell, as in a broadcast."""
    at = header.find(_ASF_PROPERTIES)
    found = header[at : at + 104]
    broadcast = at < 0 or len(found) < 104 or found[88] & 1
    return 0 if broadcast else int.from_bytes(found[40:48], "little")


_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # element ids of Matroska (RFC 9559)


def _segment_end(head: bytes) -> int:
    """Where the segment of a Matroska file ends by its own header; 0 where it was written as a stream of unknown length."""
    length, body = _element_size(head, 4)
    at = body + length
    if head[at : at + 4] != _SEGMENT:
        return 0
    length, body = _element_size(head, at + 4)
    return body + length if length else 0


def _element_size(head: bytes, at: int) -> tuple[int, int]:
    """(size, offset of the body) of an element whose size field starts at `at`; size 0 when all its bits are set."""
    first = head[at]
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width
