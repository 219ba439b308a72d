"""Planted faults are all found by name, each by its own finding; healthy and shuffled files raise no alarm."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from qtablate.bench.doctor import Checkup, examine_benchmark, examine_training
from qtablate.bench.export import export, write_mp4
from qtablate.bench.findings import ERROR, KINDS
from qtablate.bench.items import Item
from qtablate.bench.priors import chance, order, positions, positions_p, prior
from qtablate.bench.twins import twins
from qtablate.errors import DataError

FRAMES = 8
ITEMS = 48  # of a task with statistics
WORDS = [f"word {n}" for n in range(200)]


def clip(path: Path, seed: int, frames: int = 20) -> None:
    """A video at ten frames a second; another seed is other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
    write_mp4(path, pixels, scale=1, hold=1, fps=10)


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
            (self.root / "json" / f"{task}.json").write_text(json.dumps(entries))
        (self.root / "train.json").write_text(json.dumps(self.samples))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Different clips to copy from."""
    folder = tmp_path_factory.mktemp("stock")
    for number in range(1, 40):
        clip(folder / f"{number}.mp4", number)
    clip(folder / "short.mp4", 40, frames=5)
    return folder


@pytest.fixture
def folder(tmp_path: Path, stock: Path) -> Folder:
    return Folder(tmp_path / "data", stock)


def found(checkup: Checkup) -> Counter[tuple[str, str]]:
    return Counter((one.kind, one.subject) for one in checkup.findings)


def many(folder: Folder, task: str, candidates: Callable[[int], list[str]], gold: Callable[[int], str]) -> None:
    video = folder.new()
    for number in range(ITEMS):
        folder.ask(task, video, candidates=candidates(number), answer=gold(number))


def broken(folder: Folder) -> None:
    name = folder.new("broken.mp4")
    (folder.root / "video" / name).write_bytes(b"no video")
    folder.ask("broken", name)


def truncated(folder: Folder) -> None:
    path = folder.root / "video/cut.mkv"
    clip(path, 99, frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    folder.ask("truncated", path.name)


def link_out(folder: Folder) -> None:
    clip(folder.root / "secret.mp4", 77)
    folder.ask("outside", "../secret.mp4")


def copied(folder: Folder) -> None:
    name = folder.new("first.mp4")
    shutil.copy(folder.root / "video" / name, folder.root / "video/second.mp4")
    folder.ask("copied", name)
    folder.ask("copied", "second.mp4")


def copied_frames(folder: Folder) -> None:
    for name, start in (("frames_a", 1), ("frames_b", 5)):  # other names, one content
        (folder.root / "video" / name).mkdir(parents=True)
        for n in range(10):
            Image.new("RGB", (16, 16), (n * 20,) * 3).save(folder.root / "video" / name / f"{start + n:05d}.png")
        folder.ask("framed", name)


def named_alike(folder: Folder) -> None:
    folder.new("clevrer/video_validation/v1.mp4")
    folder.new("perception/videos/v1.mp4")
    folder.ask("moving_count", "v1.mp4")
    folder.ask("action_count", "v1.mp4")


def short(folder: Folder) -> None:
    (folder.root / "video").mkdir(parents=True, exist_ok=True)
    shutil.copy(folder.stock / "short.mp4", folder.root / "video/short.mp4")
    folder.ask("short", "short.mp4")


def sorted_texts(folder: Folder) -> None:
    pairs = [["left", "right"], ["right", "left"]]
    many(folder, "sorted", lambda n: pairs[n % 2], lambda n: "left" if n < ITEMS // 2 else "right")


def sorted_places(folder: Folder) -> None:
    many(folder, "blocks", lambda n: WORDS[2 * n : 2 * n + 2], lambda n: WORDS[2 * n + (n >= ITEMS // 2)])


def frequent(folder: Folder) -> None:
    pairs = [["3", "4"], ["4", "3"]]
    many(folder, "counted", lambda n: pairs[n % 2], lambda n: "4" if n % 8 == 7 else "3")


def first_places(folder: Folder) -> None:
    many(folder, "placed", lambda n: WORDS[4 * n : 4 * n + 4], lambda n: WORDS[4 * n])


FAULTS: dict[str, tuple[Callable[[Folder], None], Counter[tuple[str, str]]]] = {
    name: (plant, Counter(expected))
    for name, plant, expected in [
        ("missing", lambda f: f.ask("missing", "none.mp4"), [("missing video", "missing-0000")]),
        ("broken", broken, [("broken video", "broken.mp4")]),
        ("truncated", truncated, [("truncated video", "cut.mkv")]),
        ("start behind the end", lambda f: f.ask("late", f.new("l.mp4"), start=9), [("bounds past the end", "l.mp4 [9-None s]")]),
        ("end behind the end", lambda f: f.ask("end", f.new("e.mp4"), end=9), [("end past the clip", "e.mp4 [None-9 s]")]),
        ("start after end", lambda f: f.ask("turned", start=1.5, end=0.5), [("empty bounds", "turned-0000")]),
        ("start as text", lambda f: f.ask("clock", start="0:01"), [("malformed bounds", "clock-0000")]),
        ("short clip", short, [("fewer frames than wanted", "short.mp4")]),
        (
            "short span", lambda f: f.ask("span", f.new("s.mp4"), start=0.5, end=1),
            [("fewer frames than wanted", "s.mp4 [0.5-1 s]")],
        ),
        ("one name, two roots", named_alike, [("one name, two clips", "v1.mp4")]),
        ("gold missing", lambda f: f.ask("gold", answer="up"), [("gold not among candidates", "gold-0000")]),
        ("gold twice", lambda f: f.ask("twice", candidates=["left", "up", "left"]), [("gold given twice", "twice-0000")]),
        ("gold rewritten", lambda f: f.ask("case", candidates=["left", " Left."]), [("gold alike a candidate", "case-0000")]),
        ("others alike", lambda f: f.ask("alike", candidates=["left", "up", "Up"]), [("candidates alike", "alike-0000")]),
        ("one candidate", lambda f: f.ask("one", candidates=["left"]), [("one candidate", "one-0000")]),
        ("no object", lambda f: f.tasks.update(text=["a.mp4"]), [("malformed item", "text-0000")]),
        ("outside", link_out, [("path leaves the root", "outside-0000")]),
        ("copied clip", copied, [("one clip, two names", "second.mp4")]),
        ("copied frames", copied_frames, [("one clip, two names", "frames_b")]),
        ("sorted by text", sorted_texts, [("sorted by gold", "sorted")]),
        ("sorted by place", sorted_places, [("sorted by gold", "blocks")]),
        ("frequent gold", frequent, [("text prior above chance", "counted")]),
        ("gold first", first_places, [("uneven positions", "placed")]),
    ]
}  # fmt: skip


def planted(folder: Folder, without: str = "") -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """(expected, found) with all faults but one."""
    expected: Counter[tuple[str, str]] = Counter()
    folder.ask("healthy")
    folder.ask("healthy", answer="right")
    for name, (plant, findings) in FAULTS.items():
        if name != without:
            plant(folder)
            expected += findings
    folder.write()
    return expected, found(examine_benchmark(str(folder.root), FRAMES))


def test_every_planted_fault_is_found_by_name_and_nothing_else(folder):
    expected, seen = planted(folder)
    assert seen == expected
    assert len(expected) == len(FAULTS)
    assert {kind for kind, _ in seen} <= set(KINDS)


@pytest.mark.parametrize("without", FAULTS)
def test_without_a_fault_its_finding_alone_is_gone(folder, without):
    expected, seen = planted(folder, without)
    assert seen == expected
    assert len(expected) == len(FAULTS) - 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_alone_is_found(folder, name):
    """As above the other way around: no finding rests on another fault."""
    FAULTS[name][0](folder)
    folder.write()
    seen = found(examine_benchmark(str(folder.root), FRAMES))
    assert seen == FAULTS[name][1]
