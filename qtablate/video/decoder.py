"""Wanted frames of a video file, equal to those of a decode from its start.

Where the container tells each frame's time, decoding starts at the keyframe before a wanted frame. Every packet and every
frame that then comes is compared with the list of packets; at the first doubt the file is decoded from its start.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from qtablate.datatypes import Frames
from qtablate.video.container import PacketIndex, opened

Take = Callable[[Image.Image], Frames]
"""What is kept of a frame."""

_STAMPED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # formats that store when a frame is shown; of others it is guessed
_TURN = Image.Transpose


class SeekUncertain(Exception):
    """Seeking may not give the frames that a decode from the start gives."""


def decode_frames(path: Path, listing: PacketIndex, wanted: Collection[int], take: Take) -> dict[int, Frames]:
    """The wanted frames by index, without those that cannot be decoded."""
    try:
        return decode_by_seeking(path, listing, wanted, take)
    except (SeekUncertain, av.FFmpegError):
        return decode_sequentially(path, wanted, take)


def decode_sequentially(path: Path, wanted: Collection[int], take: Take) -> dict[int, Frames]:
    """Decoded from the start up to the last wanted frame."""
    out: dict[int, Frames] = {}
    last = max(wanted)
    with opened(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                out[index] = take(apply_display_matrix(frame))
            if index >= last:
                break
    return out


def count(path: Path) -> int:
    """How many frames a decode of the whole file gives; packets that cannot be decoded give none."""
    frames = 0
    with opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                frames += len(packet.decode())
    return frames


def decode_by_seeking(path: Path, listing: PacketIndex, wanted: Collection[int], take: Take) -> dict[int, Frames]:
    """Decoded from the keyframe before each wanted frame. Raises SeekUncertain."""
    timeline = Timeline(listing)
    out: dict[int, Frames] = {}
    with opened(path) as container:
        context = container.streams.video[0].codec_context
        if context.has_b_frames and timeline.straight:
            raise SeekUncertain("frames are shown in another order than stored, and the file does not tell which")
        # h264 marks pictures that no other refers to: on the way to a wanted frame these need not be decoded
        terse = context.name == "h264" and container.format.name in _STAMPED
        needed = {timeline.stored[index] for index in wanted} if terse else None
        run: _Run | None = None
        for index in sorted(wanted):
            key = timeline.key(index)
            if run is None or key >= run.at:
                run = _Run(timeline, container, key, run.at if run else 0, needed)
            out[index] = take(apply_display_matrix(run.until(index)))
    return out


class Timeline:
    """Which packet is which frame: frames are numbered in the order in which they are shown."""

    def __init__(self, listing: PacketIndex) -> None:
        packets = listing.packets
        if listing.cut or not all(packet.size and packet.pts is not None for packet in packets):
            raise SeekUncertain("packets are missing, are empty or have no time")
        times = [packet.pts for packet in packets if packet.pts is not None]
        if not packets[0].key or times[0] > min(times):
            raise SeekUncertain("the file starts with frames that cannot be decoded")
        self.packets = packets
        self.straight = times == sorted(times)
        """Stored in the order in which they are shown."""
        self.order = sorted(time for packet, time in zip(packets, times, strict=True) if not packet.hidden)
        self.index = {time: index for index, time in enumerate(self.order)}
        self.stored = {self.index[time]: at for at, time in enumerate(times) if not packets[at].hidden}
        """Place of a frame's packet in the file."""
        self.place = {(packet.pts, packet.pos, packet.size): at for at, packet in enumerate(packets)}
        if len(set(times)) < len(times) or len(self.place) < len(packets):
            raise SeekUncertain("two frames have the same time")
        self._keys = sorted((time, at) for at, time in enumerate(times) if packets[at].key)

    def key(self, index: int) -> int:
        """Place of the packet from which a frame can be decoded: a keyframe shown no later than it, since frames that are
        stored behind a keyframe and shown before it need those of the group before."""
        return self._keys[bisect_right(self._keys, (self.order[index], len(self.packets))) - 1][1]


class _Run:
    """Decoding from one keyframe on, checked packet by packet and frame by frame."""

    def __init__(self, timeline: Timeline, container: Any, key: int, least: int, needed: Collection[int] | None) -> None:
        """Seeks to the packet at `key`, or to a keyframe before it that is not before `least`. With `needed`, pictures that
        no other refers to are left out, but for those of the packets at these places."""
        self._timeline, self._container, self._needed = timeline, container, needed
        self._stream = container.streams.video[0]
        container.seek(timeline.packets[key].pts, stream=self._stream)
        self.at = least
        """Place of the next packet."""
        self._frames = self._decoded(range(least, key + 1))

    def until(self, index: int) -> Any:
        """The frame of this index. Raises SeekUncertain."""
        for found, frame in self._frames:
            if found == index:
                return frame
            if found > index:
                break
        raise SeekUncertain(f"frame {index} does not come")

    def _decoded(self, starts: range) -> Iterator[tuple[int, Any]]:
        """(index, frame), ascending: all from the first on, or with some left out where only some are needed."""
        timeline, needed = self._timeline, self._needed
        first, due = -1, -1
        for packet in self._container.demux(self._stream):
            if packet.size:
                at = timeline.place.get((packet.pts, packet.pos, packet.size), -1)
                if at != self.at if first >= 0 else at not in starts or not packet.is_keyframe:
                    raise SeekUncertain("another packet than expected comes")
                if first < 0:
                    first = due = bisect_left(timeline.order, packet.pts)
                    if timeline.packets[at].hidden:  # only its own picture could show that decoding began well
                        needed = None
                self.at = at + 1
                self._stream.codec_context.skip_frame = "DEFAULT" if needed is None or at in needed else "NONREF"
            for frame in packet.decode():
                index = timeline.index.get(frame.pts, -1)
                if 0 <= index < first == due:
                    continue  # shown before the keyframe: what it refers to may be missing
                if needed is not None and frame.interlaced_frame:  # of a frame's two fields one may be left out
                    raise SeekUncertain("frames are interlaced")
                if frame.is_corrupt or index < due or (index > due and (needed is None or due == first)):
                    raise SeekUncertain("another frame than expected comes")
                due = index + 1
                yield index, frame


def apply_display_matrix(frame: Any) -> Image.Image:
    """The frame as a player shows it: turned and mirrored by its display matrix where this is a matter of whole turns."""
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))  # the same as frame.to_image(), many times faster
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # (x, y) of a pixel goes to (a x + c y, b x + d y), y downwards
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    turned = a == d == 0
    if not turned and (b or c):
        return image
    if turned:
        image, a, d = image.transpose(_TURN.TRANSPOSE), c, b
    if a < 0:
        image = image.transpose(_TURN.FLIP_LEFT_RIGHT)
    return image.transpose(_TURN.FLIP_TOP_BOTTOM) if d < 0 else image
