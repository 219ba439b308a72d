"""Seeking gives the very frames that a plain decode from the start gives, or says that it is unsure."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from PIL import Image

from qtablate.errors import BadMedia, DataError
from qtablate.video import container, decoder
from qtablate.video.container import ends_within_packet, index_packets
from qtablate.video.decoder import (
    SeekUncertain,
    Timeline,
    apply_display_matrix,
    decode_by_seeking,
    decode_frames,
    decode_sequentially,
)
from qtablate.video.frames import (
    TimeSpan,
    count_frames,
    frame_indices,
    frame_times,
    read_clip,
    read_image,
    resize_center_crop,
)

KINDS, Kind, write, with_matrix, moving = clips.KINDS, clips.Kind, clips.write, clips.with_matrix, clips.moving


def plain(path: Path) -> list[np.ndarray]:
    """Every frame as it is shown, by a loop that knows nothing of seeking."""
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_image().rotate(frame.rotation, expand=True)) for frame in file.decode(video=0)]


def sized(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(resize_center_crop(Image.fromarray(pixels), side))


def samplings(count: int, step: int) -> list[list[int]]:
    """One frame at a time, in steps, and what clips are read for."""
    spans = [(1, None, None), (8, None, None), (16, 2.3, 4.1), (4, 3.0, None), (16, None, None), (5, 5.5, 99.0)]
    return (
        [[n] for n in range(count)] + [frame_indices(count, 10.0, n, TimeSpan(*span)) for n, *span in spans] + [[*range(count)]]
    )


def verdict(path: Path, how=decode_by_seeking, step: int = 1) -> str:
    """What a way of decoding gives for every sampling: `equal`, `wrong` or `unsure`."""
    every, index = plain(path), index_packets(path)
    assert index.num_frames == len(every)
    for wanted in samplings(len(every), step):
        try:
            found = how(path, index, set(wanted), np.asarray)
        except SeekUncertain:
            return "unsure"
        if sorted(found) != sorted(set(wanted)) or any(not np.array_equal(found[n], every[n]) for n in found):
            return "wrong"
    return "equal"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, written when it is first asked for."""
    folder, done = tmp_path_factory.mktemp("clips"), {}

    def get(name: str) -> Path:
        if name not in done:
            done[name] = write(folder / f"{len(done)}{KINDS[name].suffix}", KINDS[name])
        return done[name]

    return get


@pytest.mark.parametrize("name", KINDS)
def test_frames_equal_those_of_a_plain_decode(files, name):
    path = files(name)
    assert verdict(path, decode_frames, 13) == "equal"
    assert verdict(path) == ("equal" if KINDS[name].seekable else "unsure")
    every, indices = plain(path), frame_indices(index_packets(path).num_frames, index_packets(path).fps, 8)
    shown = read_clip(path, 8, 16)
    assert np.array_equal(shown, np.stack([sized(every[n], 16) for n in indices]))


def test_the_files_are_what_their_names_say(files):
    """Otherwise the comparison would prove less."""

    def packets(name: str) -> list:
        return list(index_packets(files(name)).packets)

    def leading(name: str) -> int:
        """Packets stored behind a keyframe that are shown before it."""
        found, shown = 0, 0
        for packet in packets(name):
            shown = packet.pts if packet.keyframe else shown
            found += packet.pts < shown
        return found

    assert leading("mp4, open groups") > 3
    assert leading("mkv, open groups") > 3
    assert leading("mp4, hevc with open groups") > 3
    assert leading("mp4, closed groups with B-frames") == 0
    assert sum(packet.hidden for packet in packets("mp4, edit list")) == 5
    times = sorted(packet.pts for packet in packets("mp4, variable frame rate"))
    assert len(set(np.diff(times).tolist())) > 5
    assert min(packet.pts for packet in packets("mkv, first time is 7 s")) == 7000
    assert sum(packet.keyframe for packet in packets("mp4, one keyframe")) == 1
    for name in ("webm, vp8", "webm, vp9", "avi, mpeg4 with B-frames", "mp4, no B-frames"):
        assert sum(packet.keyframe for packet in packets(name)) > 1, name
    with av.open(str(files("mp4, interlaced"))) as file:
        assert next(file.decode(video=0)).interlaced_frame
    with av.open(str(files("mp4, 10 bits"))) as file:
        assert next(file.decode(video=0)).format.name == "yuv420p10le"


def naive(path, index, wanted, take):
    """Seeks to a frame's time and takes whatever comes first: the keyframe."""
    out = {}
    times = sorted(packet.pts for packet in index.packets)
    with av.open(str(path)) as file:
        for number in wanted:
            file.seek(times[number], stream=file.streams.video[0])
            out[number] = take(apply_display_matrix(next(file.decode(video=0))))
    return out


def by_rate(path, index, wanted, take):
    """Takes the first frame that is not before number / fps, as if frames came at equal distances from time 0."""
    out = {}
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        for number in wanted:
            time = round(number / index.fps / stream.time_base)
            file.seek(time, stream=stream)
            frame = next((frame for frame in file.decode(stream) if frame.pts >= time), None)
            out |= {number: take(apply_display_matrix(frame))} if frame else {}
    return out


def late(path, index, wanted, take):
    """Off by one."""
    last = index.num_frames - 1
    found = decode_by_seeking(path, index, {min(n + 1, last) for n in wanted}, take)
    return {n: found[min(n + 1, last)] for n in wanted}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mp4, closed groups with B-frames", naive),
        ("webm, vp9", naive),
        ("mp4, closed groups with B-frames", late),
        ("mp4, variable frame rate", by_rate),
        ("webm, variable frame rate", by_rate),
        ("mkv, first time is 7 s", by_rate),
        ("mp4, first time is 7 s", by_rate),
    ],
)
def test_faulty_ways_of_seeking_fail_the_comparison(files, name, how):
    assert verdict(files(name), how) == "wrong"


def test_without_its_checks_seeking_would_be_wrong(files, monkeypatch):
    """The order of times in this file is not that of its frames: what says so is that they are stored straight."""
    path = files("avi, h264 in open groups")
    plainly = Timeline.__init__

    def trusting(self, index):
        plainly(self, index)
        self.in_display_order = False

    monkeypatch.setattr(Timeline, "__init__", trusting)
    found = set()
    every, index = plain(path), index_packets(path)
    for n in range(len(every)):
        try:
            found.add(np.array_equal(decode_by_seeking(path, index, {n}, np.asarray)[n], every[n]))
        except SeekUncertain:
            found.add("unsure")
    assert False in found


@pytest.mark.parametrize("name", ["mp4, open groups", "mkv, open groups"])
def test_a_keyframe_chosen_by_storage_gives_doubt_and_no_wrong_frame(files, name, monkeypatch):
    """A frame stored behind a keyframe and shown before it cannot be decoded from that keyframe."""

    def stored_before(self, index):
        return max(at for at in range(self.packet_of_frame[index] + 1) if self.packets[at].keyframe)

    monkeypatch.setattr(Timeline, "keyframe_before", stored_before)
    assert verdict(files(name)) == "unsure"
    assert verdict(files(name), decode_frames, 13) == "equal"


def test_pictures_that_none_refers_to_are_left_out_on_the_way(files, monkeypatch):
    run, came = decoder._SeekRun._decode, []

    def noted(self, starts):
        for index, frame in run(self, starts):
            came.append(index)
            yield index, frame

    monkeypatch.setattr(decoder._SeekRun, "_decode", noted)
    path = files("mp4, one keyframe")
    decode_by_seeking(path, index_packets(path), {55}, np.asarray)
    assert came == sorted(came)
    assert (came[0], came[-1]) == (0, 55)
    assert len(came) < 45


def test_a_short_span_near_the_end_decodes_a_few_frames(files, monkeypatch):
    path, seen = files("mp4, closed groups with B-frames"), []
    until = decoder._SeekRun.advance_to
    monkeypatch.setattr(decoder._SeekRun, "advance_to", lambda self, index: seen.append(self.position) or until(self, index))
    assert np.array_equal(read_clip(path, 4, 16, TimeSpan(5.0, 99.0))[0], sized(plain(path)[51], 16))
    assert seen[1] >= 48


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)])
def test_frames_are_upright_and_mirrored_as_the_display_matrix_says(tmp_path, matrix):
    kind = Kind(".mp4", size=(64, 48), frames=2)
    path = write(tmp_path / "a.mp4", kind)
    [before] = decode_sequentially(path, {0}, np.asarray).values()
    [after] = decode_sequentially(with_matrix(*matrix)(path), {0}, np.asarray).values()
    a, b, c, d = matrix
    y, x = np.mgrid[:48, :64]
    to_x, to_y = a * x + c * y, b * x + d * y
    expected = np.zeros((np.ptp(to_y) + 1, np.ptp(to_x) + 1, 3), np.uint8)
    expected[to_y - to_y.min(), to_x - to_x.min()] = before
    assert np.array_equal(after, expected)


def test_a_slanted_display_matrix_is_ignored(tmp_path):
    path = write(tmp_path / "a.mp4", Kind(".mp4", frames=2))
    [before] = decode_sequentially(path, {0}, np.asarray).values()
    assert np.array_equal(decode_sequentially(with_matrix(1, 1, -1, 1)(path), {0}, np.asarray)[0], before)


@pytest.mark.parametrize("change", ["empty", "same time", "no time"])
def test_packets_that_tell_no_order_give_doubt(files, change):
    index = index_packets(files("mp4, closed groups with B-frames"))
    packets = list(index.packets)
    changed = {"empty": {"size": 0}, "same time": {"pts": packets[3].pts}, "no time": {"pts": None}}[change]
    packets[7] = packets[7]._replace(**changed)
    with pytest.raises(SeekUncertain):
        Timeline(container.PacketIndex(tuple(packets), index.fps, index.num_frames, index.truncated))


def test_a_stream_joined_in_the_middle_of_a_group_is_decoded_from_its_start(tmp_path):
    whole, path = write(tmp_path / "whole.mkv", KINDS["mkv, open groups"]), tmp_path / "a.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream, keys = out.add_stream_from_template(source.streams.video[0]), 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if packet.size and keys > 1:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(SeekUncertain, match="starts with"):
        decode_by_seeking(path, index_packets(path), {20}, np.asarray)
    assert np.array_equal(decode_frames(path, index_packets(path), {20}, np.asarray)[20], plain(path)[20])


@pytest.mark.parametrize(
    "name",
    [
        "mp4, closed groups with B-frames",
        "mp4, variable frame rate",
        "mkv, first time is 7 s",
        "mp4, edit list",
        "webm, variable frame rate",
        "avi, mpeg4 with B-frames",
        "gif",
        "mpeg-ts, h264",
    ],
)
def test_seconds_are_those_at_which_the_frames_are_shown(files, name):
    path = files(name)
    with av.open(str(path)) as file:
        times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    for wanted, span in ((8, TimeSpan()), (4, TimeSpan(1.0, 3.0)), (16, TimeSpan(0.0, 0.5))):
        indices = frame_indices(index_packets(path).num_frames, index_packets(path).fps, wanted, span)
        assert frame_times(path, wanted, span) == pytest.approx([times[n] - times[0] for n in indices], abs=1e-6)


def test_seconds_of_a_folder_follow_its_rate_and_of_doubtful_packets_the_files(tmp_path, files):
    for n in range(1, 10):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{n:05d}.jpg")
    assert frame_times(tmp_path, 3) == pytest.approx([2 / 3, 5 / 3, 7 / 3])  # frames 2, 5, 7 by the notebook's formula
    index = index_packets(files("mp4, closed groups with B-frames"))
    packets = [packet._replace(pts=None) for packet in index.packets]
    without_times = container.PacketIndex(tuple(packets), 10.0, 60, False, index.time_base)
    assert without_times.timestamps() == [n / 10 for n in range(60)]
    assert index.timestamps() == pytest.approx([n / 10 for n in range(60)])


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_decode_as_many_frames_as_they_list(files, name):
    assert len(set(count_frames(files(name)))) == 1
    assert not ends_within_packet(files(name))


@pytest.mark.parametrize("name", KINDS)
def test_headers_tell_the_length_and_decode_nothing(files, name, monkeypatch):
    path, open_ = files(name), av.open

    class Sealed:
        """A container that gives nothing but its header."""

        def __init__(self, inner):
            self.streams, self.format, self.duration = inner.streams, inner.format, inner.duration

    @contextmanager
    def sealed(*words, **named):
        with open_(*words, **named) as inner:
            yield Sealed(inner)

    count, fps = index_packets(path).num_frames, index_packets(path).fps
    monkeypatch.setattr(av, "open", sealed)
    if name == "webm, variable frame rate":  # its header has another rate than its frames
        assert container.read_header_length(path).num_frames > count
    else:
        assert container.read_header_length(path) == container.VideoLength(count, fps)


def refusal(path: Path, read=lambda path: read_clip(path, 4, 16)) -> str:
    with pytest.raises(BadMedia) as raised:
        read(path)
    assert str(path) in raised.value.detail
    return raised.value.kind


def test_pipes_and_devices_are_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert refusal(tmp_path / "a.mp4") == "not a file"
    assert refusal(tmp_path / "a.mp4", lambda path: read_image(path, 16)) == "not a file"
    assert refusal(Path("/dev/zero")) == "not a file"
    assert refusal(Path("/dev/zero"), lambda path: read_image(path, 16)) == "not a file"


def test_frames_too_large_and_files_too_long_are_refused(files, monkeypatch):
    path = files("mp4, closed groups with B-frames")
    monkeypatch.setattr(container, "MAX_PACKETS", 59)
    assert refusal(path) == "video too long"
    monkeypatch.setattr(container, "MAX_PACKETS", 60)
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    assert refusal(path) == "video too large"
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 64 * 48)
    assert len(read_clip(path, 4, 16)) == 4


def test_a_stream_that_grows_is_held_to_the_same_size(tmp_path, monkeypatch):
    """Its header tells the first size only."""
    small, large = (
        write(tmp_path / f"{side}.mkv", Kind(".mkv", "mjpeg", pix="yuvj420p", size=(side, side))) for side in (32, 64)
    )
    path = tmp_path / "a.mkv"
    with av.open(str(small)) as one, av.open(str(large)) as two, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(one.streams.video[0])
        for packet in one.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
        for packet in two.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + 6000, packet.dts + 6000, stream
                out.mux(packet)
    assert verdict(path, decode_frames) == "equal"
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 48 * 48)
    assert refusal(path) == "broken video"
    assert len(read_clip(path, 4, 16, TimeSpan(0, 4.0))) == 4


def test_a_list_of_other_files_is_refused(tmp_path, files):
    (tmp_path / "b.ts").write_bytes(files("mpeg-ts, h264").read_bytes())
    for name, text in {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nb.ts\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile b.ts\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert refusal(tmp_path / name) == "broken video"


@pytest.mark.parametrize("error", [av.error.ExitError(1, "timed out"), OSError(errno.ETIMEDOUT, "timed out")])
def test_a_file_that_takes_too_long_is_named_so(tmp_path, monkeypatch, error):
    def slow(*_: object, timeout: float, **__: object) -> None:
        assert timeout == 7
        raise error

    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setenv("QTABLATE_CLIP_SECONDS", "7")
    monkeypatch.setattr(av, "open", slow)
    assert refusal(tmp_path / "a.mp4") == "decode timeout"


def test_a_machine_out_of_files_stops_the_run(tmp_path, monkeypatch):
    """It says nothing about the clip: were it left out, scores would depend on the machine."""

    def out_of_files(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setattr(av, "open", out_of_files)
    with pytest.raises(DataError, match="may be fine"):
        read_clip(tmp_path / "a.mp4", 4, 16)
