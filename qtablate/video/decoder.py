"""Decode selected frames of a video file, identical to those of a sequential decode.

Where the container stores each frame's presentation time, decoding starts at the keyframe before a wanted frame. Every packet
and frame that follows is compared with the packet index; at the first mismatch the file is decoded from its start.
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
from qtablate.video.container import PacketIndex, open_video

FrameTransform = Callable[[Image.Image], Frames]
"""Turns a decoded frame into the array that is kept, such as a resized one."""

_TIMESTAMPED = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
)  # formats that store presentation times; for others they are guessed
_TRANSPOSE = Image.Transpose


class SeekUncertain(Exception):
    """Seeking might give other frames than a sequential decode."""


def decode_frames(path: Path, index: PacketIndex, wanted: Collection[int], transform: FrameTransform) -> dict[int, Frames]:
    """Decode frames by seeking, or sequentially where seeking is uncertain.

    Args:
        wanted: numbers of frames in display order, from 0.

    Returns:
        The frames by number, without those that cannot be decoded.
    """
    try:
        return decode_by_seeking(path, index, wanted, transform)
    except (SeekUncertain, av.FFmpegError):
        return decode_sequentially(path, wanted, transform)


def decode_sequentially(path: Path, wanted: Collection[int], transform: FrameTransform) -> dict[int, Frames]:
    """Decode from the start of the file up to the last wanted frame."""
    out: dict[int, Frames] = {}
    last = max(wanted)
    with open_video(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                out[number] = transform(apply_display_matrix(frame))
            if number >= last:
                break
    return out


def count_decoded_frames(path: Path) -> int:
    """Decode the whole file and count its frames; packets that cannot be decoded give none."""
    frames = 0
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                frames += len(packet.decode())
    return frames


def decode_by_seeking(path: Path, index: PacketIndex, wanted: Collection[int], transform: FrameTransform) -> dict[int, Frames]:
    """Decode from the keyframe before each wanted frame.

    Raises:
        SeekUncertain: the frames might differ from those of a sequential decode.
    """
    timeline = Timeline(index)
    out: dict[int, Frames] = {}
    with open_video(path) as container:
        context = container.streams.video[0].codec_context
        if context.has_b_frames and timeline.in_display_order:
            raise SeekUncertain("frames are reordered for display, and the file does not store their times")
        # h264 marks pictures that no other refers to: on the way to a wanted frame these need not be decoded
        skips = context.name == "h264" and container.format.name in _TIMESTAMPED
        needed = {timeline.packet_of_frame[number] for number in wanted} if skips else None
        run: _SeekRun | None = None
        for number in sorted(wanted):
            keyframe = timeline.keyframe_before(number)
            if run is None or keyframe >= run.position:
                run = _SeekRun(timeline, container, keyframe, run.position if run else 0, needed)
            out[number] = transform(apply_display_matrix(run.advance_to(number)))
    return out


class Timeline:
    """The relation between packets, numbered in stored order, and frames, numbered in display order."""

    def __init__(self, index: PacketIndex) -> None:
        """Raises SeekUncertain where packets do not determine the frames' order."""
        packets = index.packets
        if index.truncated or not all(packet.size and packet.pts is not None for packet in packets):
            raise SeekUncertain("packets are missing, are empty or have no time")
        times = [packet.pts for packet in packets if packet.pts is not None]
        if not packets[0].keyframe or times[0] > min(times):
            raise SeekUncertain("the file starts with frames that cannot be decoded")
        self.packets = packets
        self.in_display_order = times == sorted(times)
        """Whether packets are stored in the order in which their frames are shown."""
        self.frame_times = sorted(time for packet, time in zip(packets, times, strict=True) if not packet.hidden)
        self.frame_at_time = {time: number for number, time in enumerate(self.frame_times)}
        self.packet_of_frame = {self.frame_at_time[time]: at for at, time in enumerate(times) if not packets[at].hidden}
        self.packet_number = {(packet.pts, packet.pos, packet.size): at for at, packet in enumerate(packets)}
        if len(set(times)) < len(times) or len(self.packet_number) < len(packets):
            raise SeekUncertain("two frames have the same time")
        self._keyframes = sorted((time, at) for at, time in enumerate(times) if packets[at].keyframe)

    def keyframe_before(self, frame: int) -> int:
        """Return the number of the packet from which a frame can be decoded: the last keyframe shown no later than it.

        Display order decides: frames stored after a keyframe and shown before it need the keyframe of the group before.
        """
        return self._keyframes[bisect_right(self._keyframes, (self.frame_times[frame], len(self.packets))) - 1][1]


class _SeekRun:
    """Decoding from one keyframe onwards, checked packet by packet and frame by frame."""

    def __init__(
        self, timeline: Timeline, container: Any, keyframe: int, first_allowed: int, needed: Collection[int] | None
    ) -> None:
        """Seek to a keyframe.

        Args:
            keyframe: number of its packet. The container may seek to an earlier one, down to `first_allowed`.
            needed: packets whose frames are wanted; other pictures that no other refers to are skipped. None: skip nothing.
        """
        self._timeline, self._container, self._needed = timeline, container, needed
        self._stream = container.streams.video[0]
        container.seek(timeline.packets[keyframe].pts, stream=self._stream)
        self.position = first_allowed
        """Number of the next packet."""
        self._frames = self._decode(range(first_allowed, keyframe + 1))

    def advance_to(self, wanted: int) -> Any:
        """Decode up to a frame and return it. Raises SeekUncertain."""
        for number, frame in self._frames:
            if number == wanted:
                return frame
            if number > wanted:
                break
        raise SeekUncertain(f"frame {wanted} is missing")

    def _decode(self, starts: range) -> Iterator[tuple[int, Any]]:
        """Yield (number, frame) in ascending order: all from the first on, or only some where others may be skipped.

        Args:
            starts: packets at which the container may start.
        """
        timeline, needed = self._timeline, self._needed
        first, due = -1, -1
        for packet in self._container.demux(self._stream):
            if packet.size:
                at = timeline.packet_number.get((packet.pts, packet.pos, packet.size), -1)
                if at != self.position if first >= 0 else at not in starts or not packet.is_keyframe:
                    raise SeekUncertain("the container gives an unexpected packet")
                if first < 0:
                    first = due = bisect_left(timeline.frame_times, packet.pts)
                    if timeline.packets[at].hidden:  # only its own picture could show that decoding started correctly
                        needed = None
                self.position = at + 1
                self._stream.codec_context.skip_frame = "DEFAULT" if needed is None or at in needed else "NONREF"
            for frame in packet.decode():
                number = timeline.frame_at_time.get(frame.pts, -1)
                if 0 <= number < first == due:
                    continue  # shown before the keyframe: what it refers to may be missing
                if needed is not None and frame.interlaced_frame:  # one of a frame's two fields may have been skipped
                    raise SeekUncertain("frames are interlaced")
                if frame.is_corrupt or number < due or (number > due and (needed is None or due == first)):
                    raise SeekUncertain("the decoder gives an unexpected frame")
                due = number + 1
                yield number, frame


def apply_display_matrix(frame: Any) -> Image.Image:
    """Return a decoded frame as a player shows it: rotated by multiples of 90 degrees and mirrored by its display matrix."""
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
        image, a, d = image.transpose(_TRANSPOSE.TRANSPOSE), c, b
    if a < 0:
        image = image.transpose(_TRANSPOSE.FLIP_LEFT_RIGHT)
    return image.transpose(_TRANSPOSE.FLIP_TOP_BOTTOM) if d < 0 else image
