"""Export the procedural benchmark as a folder in MVBench's format, with H.264-encoded mp4 files."""

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

FRAME_REPEATS = 4
"""How often each frame of the world is written, so that MVBench's sampling formula meets every one of them."""
UPSCALE = 8
"""Enlargement: 32 pixels become 256. With 4:2:0 subsampling, the colors of smaller pictures would bleed into one another."""


def export_world(directory: Path, items_per_task: int) -> tuple[int, int]:
    """Write json/ and video/ into a new or empty folder and return (number of clips, number of items).

    Raises:
        DataError: the folder holds something else.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f"{directory} is not an empty folder: name a new one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as temporary:
        counts = _write(Path(temporary) / "export", items_per_task)
        if directory.exists():
            directory.rmdir()
        (Path(temporary) / "export").rename(directory)  # the folder appears complete or not at all
    return counts


def _write(directory: Path, items_per_task: int) -> tuple[int, int]:
    """Write the folder's content and return (clips, items)."""
    world = WorldBench(items_per_task)
    files = {clip: f"world_{number:05d}.mp4" for number, clip in enumerate(world.clips())}
    (directory / "video").mkdir(parents=True)
    (directory / "json").mkdir()
    for clip, file in files.items():
        write_mp4(directory / "video" / file, world.frames(clip))
    tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in world.items:
        tasks[item.task].append(
            {
                "video": files[item.clip],
                "question": item.question,
                "candidates": list(item.options),
                "answer": item.options[item.answer],
                "item": item.id,
            }
        )
    for task, entries in tasks.items():
        (directory / "json" / f"{task}.json").write_text(json.dumps(entries, indent=1) + "\n")
    return len(files), len(world.items)


def write_mp4(path: Path, frames: Frames, scale: int = UPSCALE, repeats: int = FRAME_REPEATS, fps: float = FPS) -> None:
    """Encode frames (T, H, W, 3) with H.264, enlarged by `scale`, each written `repeats` times at `fps` x `repeats`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps * repeats), options={"crf": "12"})
        stream.height, stream.width = frames.shape[1] * scale, frames.shape[2] * scale
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            enlarged = upscale(frame, scale)
            for _ in range(repeats):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(enlarged, format="rgb24")))
        container.mux(stream.encode(None))
