"""Measures whether decoding by seeking is exact and how much time it saves. Writes results/decoding/README.md.

    python tests/benchmarks/decoding.py results/decoding/README.md

`sequential` decodes from the start to the last wanted frame. `seeking` includes the indexing of packets, and the sequential
decoding where it falls back to it.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from qtablate.video.container import index_packets
from qtablate.video.decoder import SeekUncertain, Timeline, decode_by_seeking, decode_frames
from qtablate.video.frames import TimeSpan, frame_indices, resize_center_crop

sys.path.insert(0, str(Path(__file__).parents[1]))
from clips import KINDS, Kind, moving, write

REPEATS = 5
WANTED, SIDE = 16, 224
FRAMES = 150
LONG = Kind(".mp4", size=(1280, 720), frames=1800)
SPANS = {
    "default groups (250)": ({}, 0, TimeSpan()),
    "default groups (250), asked about 40 to 50 s": ({}, 0, TimeSpan(40.0, 50.0)),
    "default groups (250), another scene every 3 s": ({}, 90, TimeSpan()),
    "groups of 60": ({"g": "60"}, 0, TimeSpan()),
    "groups of 30": ({"g": "30"}, 0, TimeSpan()),
    "groups of 12": ({"g": "12"}, 0, TimeSpan()),
}

HEAD = f"""# Decoding by seeking

`python tests/benchmarks/decoding.py {{out}}`: {WANTED} frames at {SIDE} pixels; median of {REPEATS} (min..max).
PyAV {{av}}, FFmpeg {{ffmpeg}}. *sequential*: a plain loop from the start to the last wanted frame.
*seeking*: what `read_clip` does, that is to list all packets, to decode from the keyframe before each wanted frame and,
where *seeking exact* says no, to decode from the start after all.

## Is it exact?

Each frame asked for alone, and all at once, against the plain loop, at full size: {FRAMES} frames of 320 x 240 pixels
(odd size: 323 x 241) of moving noise, at 10 a second."""
SAVED = """## What does it save?

60 s of 1280 x 720 pixels at 30 a second, x264's defaults but for what is named: drifting texture, a gradient and fresh
noise in a quarter of the picture. *to decode*: how many frames lie between each keyframe and the last wanted frame of
its group, of those up to the last wanted one; seeking alone can save no more. Leaving out pictures that no other refers
to saves the rest."""


def sequential(path: Path, wanted: Collection[int], take: Callable) -> dict[int, np.ndarray]:
    """Decode with a plain loop; seeking must give the same frames."""
    out, last = {}, max(wanted)
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                out[index] = take(frame.to_image().rotate(frame.rotation, expand=True))
            if index >= last:
                break
    return out


def seeking(path: Path, wanted: Collection[int], take: Callable) -> dict[int, np.ndarray]:
    return decode_frames(path, index_packets(path), wanted, take)


def sized(image: object) -> np.ndarray:
    return np.asarray(resize_center_crop(image, SIDE))


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def equal(path: Path) -> bool:
    """Whether every frame alone, and all together, equal those of the plain loop in every pixel at full size."""
    every = sequential(path, range(index_packets(path).num_frames), np.asarray)
    groups = [[n] for n in every] + [list(every)]
    return all(same({n: every[n] for n in some}, seeking(path, some, np.asarray)) for some in groups)


def sought_in_full(path: Path, wanted: Collection[int]) -> str:
    try:
        decode_by_seeking(path, index_packets(path), wanted, sized)
    except SeekUncertain as reason:
        return f"no: {reason}"
    return "yes"


def timed(path: Path, wanted: Collection[int]) -> tuple[list[float], list[float], bool]:
    """(seconds of sequential, seconds of seeking, whether both gave the same frames); the two take turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        found = []
        for how, spent in zip((sequential, seeking), seconds, strict=True):
            start = time.perf_counter()
            found.append(how(path, wanted, sized))
            spent.append(time.perf_counter() - start)
    return *seconds, same(*found)


def span(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}..{max(seconds):.3f})"


def row(name: str, path: Path, wanted: Collection[int], whole: bool) -> str:
    """One row of the table. With `whole`, all frames are compared, otherwise the wanted ones."""
    before, after, agreed = timed(path, wanted)
    verdict = "yes" if agreed and (not whole or equal(path)) else "NO"
    ratio = statistics.median(before) / statistics.median(after)
    return f"| {name} | {verdict} | {sought_in_full(path, wanted)} | {span(before)} | {span(after)} | {ratio:.1f} |"


def least(path: Path, wanted: Collection[int]) -> tuple[int, int]:
    """(frames from each keyframe to the last wanted frame of its group, frames up to the last wanted)."""
    timeline = Timeline(index_packets(path))
    ends: dict[int, int] = {}
    for index in wanted:
        key = timeline.keyframe_before(index)
        ends[key] = max(ends.get(key, 0), timeline.packet_of_frame[index] - key + 1)
    return sum(ends.values()), max(wanted) + 1


def head(first: str) -> list[str]:
    return [
        f"| {first} | equal | seeking exact | seconds sequential | seconds seeking | ratio |",
        "|---|---|---|---:|---:|---:|",
    ]


def main(out: str) -> None:
    lines = [
        *HEAD.format(out=out, av=av.__version__, ffmpeg=av.ffmpeg_version_info).splitlines(),
        "",
        *head("format, property"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        for number, (name, kind) in enumerate(KINDS.items()):
            size = (323, 241) if kind.size[0] % 2 else (320, 240)
            larger = replace(kind, size=size, frames=FRAMES if kind.frames > 1 else 1)
            path = write(tmp / f"{number}{kind.suffix}", larger)
            index = index_packets(path)
            lines.append(row(name, path, set(frame_indices(index.num_frames, index.fps, WANTED)), whole=True))
            print(lines[-1], flush=True)
        lines += [
            "",
            *SAVED.splitlines(),
            "",
            *head("clip"),
        ]
        lines[-2:] = [lines[-2].replace("ratio |", "ratio | to decode |"), lines[-1] + "---:|"]
        known: dict[tuple, Path] = {}
        for name, (options, cut, bounds) in SPANS.items():
            which = (*options.items(), cut)
            if which not in known:
                known[which] = tmp / f"long{len(known)}.mp4"
                write(known[which], replace(LONG, options=options), moving(LONG.frames, LONG.size, cut), rate=30)
            path = known[which]
            wanted = set(frame_indices(LONG.frames, 30.0, WANTED, bounds))
            alone, all_of_them = least(path, wanted)
            lines.append(row(name, path, wanted, whole=False) + f" {alone} of {all_of_them} |")
            print(lines[-1], flush=True)
        path = known[(0,)]
        spent = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            index_packets(path)
            spent.append(time.perf_counter() - start)
        lines += ["", f"Listing the packets of a clip ({path.stat().st_size / 1e6:.0f} MB) takes {span(spent)} s of it."]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
