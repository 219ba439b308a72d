"""A benchmark folder and a training file under construction, into which tests plant faults."""

import json
import shutil
from collections import Counter
from pathlib import Path

import clips
import numpy as np
from PIL import Image

from qtablate.data.export import write_mp4
from qtablate.validate.check import ValidationReport
from qtablate.video.container import index_packets

Kind, write = clips.Kind, clips.write


FRAMES = 8


ITEMS = 48  # of a task with statistics


WORDS = [f"word {n}" for n in range(200)]


def clip(path: Path, seed: int, frames: int = 20) -> None:
    """A video at ten frames a second; another seed is other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
    write_mp4(path, pixels, scale=1, repeats=1, fps=10)


def written(entries: list[object]) -> str:
    """As JSON, in which a key "~fps" is another "fps" of the same entry."""
    return json.dumps(entries).replace('"~', '"')


class Folder:
    """A benchmark and a training file in the making, with clips c0.mp4, c1.mp4, ... that are all different."""

    def __init__(self, root: Path, stock: Path) -> None:
        self.root, self.stock, self.used = root, stock, 0
        self.tasks: dict[str, list[object]] = {}
        self.samples: list[object] = []

    def new(self, name: str = "") -> str:
        """A healthy clip of its own."""
        self.used += 1
        name = name or f"c{self.used}.mp4"
        (self.root / "video" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.stock / f"{self.used}.mp4", self.root / "video" / name)
        return name

    def ask(self, task: str, video: str = "", **changes: object) -> None:
        entry = {"video": video or self.new(), "question": "What?", "candidates": ["left", "right"], "answer": "left"}
        self.tasks.setdefault(task, []).append({**entry, **changes})

    def tell(self, video: str = "", **changes: object) -> None:
        turns = [{"i": "Answer.", "q": "What?", "a": "a disc"}]
        self.samples.append({"video": video or self.new(), "QA": turns, **changes})

    def write(self) -> None:
        (self.root / "json").mkdir(parents=True)
        for task, entries in self.tasks.items():
            (self.root / "json" / f"{task}.json").write_text(written(entries))
        (self.root / "train.json").write_text(written(self.samples))


def found(report: ValidationReport) -> Counter[tuple[str, str]]:
    return Counter((finding.kind, finding.subject) for finding in report.findings)


def with_a_lost_frame(path: Path) -> None:
    """The second frame, which no sample takes, is zeros: it is listed, and never decoded."""
    packet = index_packets(write(path, Kind(".mkv", "mjpeg", pix="yuvj420p"))).packets[1]
    content = bytearray(path.read_bytes())
    content[packet.pos + 20 : packet.pos + packet.size] = bytes(packet.size - 20)
    path.write_bytes(content)


def framed(folder: Folder, target: str) -> str:
    """A folder of frames of which one, that no sample would take, is a link to `target`."""
    frames = folder.root / "video" / f"to_{Path(target).stem}"
    frames.mkdir(parents=True)
    for n in range(1, 20):
        Image.new("RGB", (16, 16), (n * 10, 0, len(target))).save(frames / f"{n:05d}.png")
    (frames / "00020.png").symlink_to(target)
    shutil.copy(frames / "00001.png", folder.root / "away.png")
    return frames.name


def from_stock(folder: Folder, name: str) -> str:
    (folder.root / "video").mkdir(parents=True, exist_ok=True)
    shutil.copy(folder.stock / name, folder.root / "video" / name)
    return name
