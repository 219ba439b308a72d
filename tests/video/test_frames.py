"""Frames are the ones the formula names, whatever the container; media that cannot give them says why."""

import errno
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from qtablate.errors import BadMedia, DataError
from qtablate.video import frames as module
from qtablate.video.frames import TimeSpan, frame_indices, read_clip, read_image, resize_center_crop

SIDE = 8
B_FRAMES = {"bf": "3", "g": "12", "x264-params": "b-adapt=0:scenecut=0"}
FORMATS = {
    "a.mp4": ("libx264", "yuv420p", B_FRAMES),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
    "vp8.webm": ("libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "a.avi": ("mpeg4", "yuv420p", {"bf": "2", "qmin": "1", "qmax": "1"}),
    "a.mkv": ("libx264", "yuv420p", B_FRAMES),
    "a.gif": ("gif", "gray", {}),
}

SIZES = [
    ((8, 8), (8, 8)),
    ((90, 30), (24, 8)),
    ((31, 97), (8, 25)),
    ((2, 300), (8, 1200)),
    ((1, 40), (8, 320)),
    ((40, 1), (320, 8)),
]


def grays(count: int, size=(48, 32)) -> np.ndarray:
    """Frame n is one flat gray of 10 + 6 n: neighbours can be told apart."""
    return np.broadcast_to(np.arange(10, 10 + 6 * count, 6, dtype=np.uint8)[:, None, None, None], (count, *size[::-1], 3))


def encode(path: Path, frames: np.ndarray, codec="libx264", pix="yuv420p", options=(), container=()) -> Path:
    with av.open(str(path), "w", options=dict(container)) as out:
        stream = out.add_stream(codec, rate=10, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix
        for frame in np.ascontiguousarray(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pix)))
        out.mux(stream.encode(None))
    return path


def decoded(path: Path, side: int = SIDE) -> np.ndarray:
    """Every frame of the file, in order."""
    with av.open(str(path)) as container:
        return np.stack([np.asarray(resize_center_crop(frame.to_image(), side)) for frame in container.decode(video=0)])


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, read off their brightness."""
    return [round((float(frame.mean()) - 10) / 6) for frame in frames]


def notebook(count: int, fps: float, wanted: int, start: float | None = None, end: float | None = None, first: int = 0) -> list:
    """The formula of mvbench.md, before any clamping."""
    start_idx = max(first, round((-100000 if start is None else start) * fps))
    end_idx = min(round((100000 if end is None else end) * fps), count - 1 + first)
    seg = (end_idx - start_idx) / wanted
    return [int(start_idx + seg / 2 + round(seg * k)) for k in range(wanted)]


def kind_of(path: Path, *arguments: object) -> str:
    with pytest.raises(BadMedia) as raised:
        read_clip(path, *(arguments or (4, SIDE)))
    assert path.name in raised.value.detail
    return raised.value.kind


def test_indices_follow_the_notebook_and_stay_in_the_clip():
    counts, rates = [1, 2, 3, 7, 15, 16, 17, 100, 641], [1.0, 3.0, 10.0, 23.976, 30.0]
    for count, fps, wanted, first in itertools.product(counts, rates, [1, 4, 8, 16], [0, 1]):
        last, length = count - 1 + first, count / fps
        for span in [(None, None), (0.25 * length, None), (None, 0.5 * length), (0.1 * length, 0.83 * length)]:
            expected = notebook(count, fps, wanted, *span, first)
            found = frame_indices(count, fps, wanted, TimeSpan(*span), first)
            assert found == [min(max(i, first), last) for i in expected], (count, fps, wanted, first, span)
            assert span != (None, None) or found == expected
            assert found == sorted(found)


def test_indices_known_by_hand():
    assert frame_indices(16, 10.0, 4) == [1, 5, 9, 12]  # segments of 3.75: 1.875 + (0, 4, 8, 11)
    assert frame_indices(6, 3.0, 3, first=1) == [1, 3, 4]  # segments of 5/3 from 1: 1.83 + (0, 2, 3), cut to whole numbers
    assert frame_indices(100, 10.0, 2, TimeSpan(2.0, 4.0)) == [25, 35]
    assert frame_indices(100, 1.0, 2, TimeSpan(0.5, 5.0)) == [1, 3]  # 0.5 rounds to the even 0


@pytest.mark.parametrize("first", [0, 1])
def test_bounds_outside_the_clip_are_clamped_and_short_clips_repeat(first):
    assert set(frame_indices(10, 10.0, 4, TimeSpan(50.0, 60.0), first)) == {9 + first}
    assert set(frame_indices(10, 10.0, 4, TimeSpan(None, -3.0), first)) == {first}
    short = frame_indices(3, 10.0, 16, first=first)
    assert (len(short), set(short)) == (16, {first, first + 1, first + 2})
    assert frame_indices(1, 10.0, 5, first=first) == [first] * 5


@pytest.mark.parametrize(("size", "large"), SIZES)
def test_resized_is_the_centre_of_a_bicubic_short_side_resize(size, large):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    whole = np.asarray(image.resize(large, Image.Resampling.BICUBIC))
    top, left = ((length - 8) / 2 for length in whole.shape[:2])
    centre = whole[round(top) : round(top) + 8, round(left) : round(left) + 8]
    assert np.array_equal(np.asarray(resize_center_crop(image, 8)), centre)
    assert resize_center_crop(image.convert("L"), 8).mode == "RGB"


@pytest.mark.parametrize("name", FORMATS)
def test_read_clip_equals_decoding_everything_and_indexing(tmp_path, name):
    path = encode(tmp_path / name, grays(34), *FORMATS[name])
    every = decoded(path)
    assert numbers(every) == list(range(34))
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    # B-frames are stored out of order: without them these three would prove less
    assert (stamps != sorted(stamps)) == (name in ("a.mp4", "a.mkv", "a.avi"))
    for wanted, *span in [(8,), (40,), (5, 0.7, 2.2), (3, 3.0), (34, None, 1.0), (1, 3.3, 9.0)]:
        indices = notebook(34, 10.0, wanted, *span)
        frames = read_clip(path, wanted, SIDE, TimeSpan(*span))
        assert numbers(frames) == indices
        assert np.array_equal(frames, every[indices])
    assert kind_of(path, 4, SIDE, TimeSpan(3.5, 9.0)) == "start past the end"


@pytest.mark.parametrize(("size", "pix"), [((33, 47), "yuv444p"), ((70, 16), "yuv420p"), ((16, 70), "yuv420p")])
def test_odd_sizes_and_a_single_frame(tmp_path, size, pix):
    path = encode(tmp_path / "a.mp4", grays(5, size), pix=pix)
    assert np.array_equal(read_clip(path, 3, 9), decoded(path, 9)[[0, 1, 3]])
    one = encode(tmp_path / "one.mp4", grays(1, size), pix=pix)
    assert read_clip(one, 4, 9).shape == (4, 9, 9, 3)
    assert numbers(read_clip(one, 4, 9)) == [0] * 4


def test_frame_folder_counts_from_one_at_three_a_second(tmp_path):
    for n in range(1, 22):
        Image.new("RGB", (40, 30), (10 + 6 * n,) * 3).save(tmp_path / f"{n:05d}.jpg", quality=95)
    (tmp_path / "notes.txt").write_text("not a frame")
    assert numbers(read_clip(tmp_path, 8, SIDE)) == notebook(21, 3.0, 8, first=1)
    assert numbers(read_clip(tmp_path, 4, SIDE, TimeSpan(2.0, 5.0))) == notebook(21, 3.0, 4, 2.0, 5.0, 1)
    assert kind_of(tmp_path, 4, SIDE, TimeSpan(7.4, 9.0)) == "start past the end"
    (tmp_path / "00010.jpg").write_bytes(b"")
    with pytest.raises(BadMedia, match=r"broken image: .*00010\.jpg"):
        read_clip(tmp_path, 21, SIDE)


def test_media_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    assert kind_of(tmp_path / "none.mp4") == "missing video"
    assert kind_of(tmp_path / "empty") == "no frames"
    assert kind_of(tmp_path / "zero.mp4") == "broken video"
    assert kind_of(tmp_path / "text.mp4") == "broken video"
    with pytest.raises(BadMedia, match="missing image"):
        read_image(tmp_path / "none.png", SIDE)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        out.mux([*stream.encode(silence), *stream.encode(None)])
    assert kind_of(tmp_path / "sound.mp4") == "no frames"


def test_an_mp4_cut_in_the_middle_is_noticed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)  # takes bytes that can be cut
    path = encode(tmp_path / "a.mp4", noise, container={"movflags": "faststart"})
    with av.open(str(path)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    content, early = path.read_bytes(), decoded(path)[notebook(30, 10.0, 4, 0, 0.8)]
    path.write_bytes(content[: starts[18]])
    assert kind_of(path) == "truncated video"
    assert np.array_equal(read_clip(path, 4, SIDE, TimeSpan(0, 0.8)), early)  # what is whole is still read
    path.write_bytes(content[: (starts[18] + starts[19]) // 2])
    assert kind_of(path) == "broken video"  # the decoder refuses the packet that was cut


def test_a_clip_cut_without_reencoding_is_whole(tmp_path):
    whole, path = encode(tmp_path / "whole.mp4", grays(30)), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        offset = int(Fraction(1, 2) / source.streams.video[0].time_base)  # starts in the middle of a group of pictures
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, stream
                out.mux(packet)
    assert numbers(decoded(path)) == list(range(5, 30))
    assert numbers(read_clip(path, 25, SIDE)) == [5 + i for i in notebook(25, 10.0, 25)]


def test_a_png_with_a_broken_chunk_is_bad_media(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    first, middle, last = path.read_bytes().split(b"IDAT", 2)
    path.write_bytes(first + b"IDAT" + middle + b"\0\1\2\3" + last)
    with pytest.raises(BadMedia, match="broken image"):
        read_image(path, SIDE)


@pytest.mark.parametrize(
    ("name", "codec", "left"), [("a.mp4", "libx264", 56), ("a.mp4", "libx264", 59), ("a.avi", "mpeg4", 50)]
)
def test_a_file_that_lost_its_last_frames_is_noticed(tmp_path, name, codec, left):
    noise = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    path = encode(tmp_path / name, noise, codec, container={"movflags": "faststart"} if name == "a.mp4" else {})
    with av.open(str(path)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    early = decoded(path)[notebook(60, 10.0, 4, 0, 2.0)]
    path.write_bytes(path.read_bytes()[: starts[left]])
    assert np.array_equal(read_clip(path, 4, SIDE, TimeSpan(0, 2.0)), early)
    assert kind_of(path, 600, SIDE) == "truncated video"  # wants every frame


def test_an_avi_with_held_frames_is_whole(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10, options={"qmin": "1", "qmax": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for n, gray in enumerate(np.ascontiguousarray(grays(30))):
            frame = av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 2 * n, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert numbers(decoded(path)) == list(range(30))
    assert read_clip(path, 8, SIDE).shape == (8, SIDE, SIDE, 3)


@pytest.mark.parametrize("end", [1e308, 10**400], ids=["float", "whole"])
def test_an_end_too_large_to_count_is_no_crash(tmp_path, end):
    path = encode(tmp_path / "a.mp4", grays(10))
    try:
        frames = read_clip(path, 4, SIDE, TimeSpan.from_entry({"end": end}))
    except BadMedia:
        return  # to refuse it by name is as good as to clamp it
    assert np.array_equal(frames, read_clip(path, 4, SIDE))


@pytest.mark.parametrize(
    ("name", "codec", "pix"), [("a.mkv", "libx264", "yuv420p"), ("a.webm", "libvpx", "yuv420p"), ("a.gif", "gif", "gray")]
)
def test_a_cut_file_without_an_index_is_refused(tmp_path, name, codec, pix):
    """Nothing says how many frames it had, so that its middle is not the middle of the clip."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    path = encode(tmp_path / name, noise, codec, pix)
    assert read_clip(path, 4, SIDE).shape == (4, SIDE, SIDE, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: 2 * len(whole) // 3])
    assert kind_of(path) == "truncated video"


def test_a_matroska_stream_of_unknown_length_is_read(tmp_path):
    """As live recordings are written: it cannot be told whether it was cut, and it may well be whole."""
    path = encode(tmp_path / "a.mkv", grays(12), container={"live": "1"})
    assert numbers(read_clip(path, 12, SIDE)) == notebook(12, 10.0, 12)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for n, gray in enumerate(grays(12), start=1):
        Image.fromarray(gray).save(tmp_path / f"{n}.png")
    assert numbers(read_clip(tmp_path, 11, SIDE)) == sorted(numbers(read_clip(tmp_path, 11, SIDE)))


def test_a_machine_out_of_files_does_not_condemn_the_clip(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", grays(10))
    picture = tmp_path / "a.png"
    Image.fromarray(grays(1)[0]).save(picture)

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module.av, "open", exhausted)
    monkeypatch.setattr(module.Image, "open", exhausted)
    with pytest.raises(DataError, match="may be fine"):
        read_clip(path, 4, SIDE)
    with pytest.raises(DataError, match="may be fine"):
        read_image(picture, SIDE)


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path):
    Image.fromarray(np.zeros((1, 20000, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadMedia, match="too long a strip"):
        read_image(tmp_path / "a.png", 384)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    assert read_image(tmp_path / "a.png", 8)[0, 4, 4].tolist() == [200, 100, 50]
