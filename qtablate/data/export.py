"""The procedural benchmark written as a folder in MVBench's format, with encoded mp4 files."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import av

from qtablate.datatypes import Frames
from qtablate.errors import DataError
from qtablate.video.frames import upscale
from qtablate.world.benchmark import WorldBench
from qtablate.world.scene import FPS

HOLD = 4  # each frame of the world is shown this often, so that MVBench's sampling formula meets every one of them
SCALE = 8  # 32 pixels become 256: at 4:2:0 the colors of smaller pictures would run into one another


def export(directory: Path, items_a_task: int) -> tuple[int, int]:
    """Write json/ and video/ and return (clips, items). Raises DataError when the folder holds something else."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f"{directory} is not an empty folder: name a new one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        counts = _write(Path(beside) / "export", items_a_task)
        if directory.exists():
            directory.rmdir()
        (Path(beside) / "export").rename(directory)  # whole or not at all
    return counts


def _write(directory: Path, items_a_task: int) -> tuple[int, int]:
    world = WorldBench(items_a_task)
    names = {clip: f"world_{number:05d}.mp4" for number, clip in enumerate(world.clips())}
    (directory / "video").mkdir(parents=True)
    (directory / "json").mkdir()
    for clip, name in names.items():
        write_mp4(directory / "video" / name, world.frames(clip))
    tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in world.items:
        tasks[item.task].append(
            {
                "video": names[item.clip],
                "question": item.question,
                "candidates": list(item.options),
                "answer": item.options[item.answer],
                "item": item.id,
            }
        )
    for task, entries in tasks.items():
        (directory / "json" / f"{task}.json").write_text(json.dumps(entries, indent=1) + "\n")
    return len(names), len(world.items)


def write_mp4(path: Path, frames: Frames, scale: int = SCALE, hold: int = HOLD, fps: float = FPS) -> None:
    """Encode frames with H.264, enlarged and repeated."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps * hold), options={"crf": "12"})
        stream.height, stream.width = frames.shape[1] * scale, frames.shape[2] * scale
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            large = upscale(frame, scale)
            for _ in range(hold):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode(None))
