"""Planted faults are all found by name, each by its own finding; healthy and shuffled files raise no alarm."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from qtablate.data.export import export_world, write_mp4
from qtablate.datatypes import Item
from qtablate.errors import DataError
from qtablate.validate.check import ValidationReport, check_benchmark, check_training
from qtablate.validate.duplicates import duplicate_groups
from qtablate.validate.findings import ERROR, KINDS
from qtablate.validate.summaries import SORTED_SCORE, SORTED_Z, TEXT_BIAS_Z
from qtablate.validate.tables import summary
from qtablate.validate.text_bias import chance, gold_positions, gold_positions_p, sortedness, text_bias
from qtablate.video.container import VideoLength, index_packets
from qtablate.video.frames import Clip

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


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Different clips to copy from."""
    folder = tmp_path_factory.mktemp("stock")
    for number in range(1, 40):
        clip(folder / f"{number}.mp4", number)
    clip(folder / "short.mp4", 40, frames=5)
    for name, codec in (("half.wmv", "wmv2"), ("half.mpg", "mpeg1video")):
        content = write(folder / name, Kind(Path(name).suffix, codec), rate=25).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2 + 100])
    with_a_lost_frame(folder / "lost.mkv")
    return folder


def with_a_lost_frame(path: Path) -> None:
    """The second frame, which no sample takes, is zeros: it is listed, and never decoded."""
    packet = index_packets(write(path, Kind(".mkv", "mjpeg", pix="yuvj420p"))).packets[1]
    content = bytearray(path.read_bytes())
    content[packet.pos + 20 : packet.pos + packet.size] = bytes(packet.size - 20)
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path, stock: Path) -> Folder:
    return Folder(tmp_path / "data", stock)


def found(checkup: ValidationReport) -> Counter[tuple[str, str]]:
    return Counter((one.kind, one.subject) for one in checkup.findings)


def many(folder: Folder, task: str, candidates: Callable[[int], list[str]], gold: Callable[[int], str]) -> None:
    video = folder.new()
    for number in range(ITEMS):
        folder.ask(task, video, question=f"What {number}?", candidates=candidates(number), answer=gold(number))


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


def twice(folder: Folder, task: str, answer: str) -> None:
    name = folder.new()
    folder.ask(task, name)
    folder.ask(task, name, candidates=["right", "left"], answer=answer)


FAULTS: dict[str, tuple[Callable[[Folder], None], Counter[tuple[str, str]]]] = {
    name: (plant, Counter(expected))
    for name, plant, expected in [
        ("missing", lambda f: f.ask("missing", "none.mp4"), [("missing video", "missing-0000")]),
        ("broken", broken, [("broken video", "broken.mp4")]),
        ("truncated", truncated, [("truncated video", "cut.mkv")]),
        ("start behind the end", lambda f: f.ask("l", f.new("l.mp4"), start=9), [("start past the end", "l.mp4 [9-None s]")]),
        ("end behind the end", lambda f: f.ask("end", f.new("e.mp4"), end=9), [("end past the end", "e.mp4 [None-9 s]")]),
        ("start after end", lambda f: f.ask("turned", start=1.5, end=0.5), [("empty time span", "turned-0000")]),
        ("start as text", lambda f: f.ask("clock", start="0:01"), [("malformed time span", "clock-0000")]),
        ("short clip", short, [("fewer frames than sampled", "short.mp4")]),
        (
            "short span",
            lambda f: f.ask("span", f.new("s.mp4"), start=0.5, end=1),
            [("fewer frames than sampled", "s.mp4 [0.5-1 s]")],
        ),
        ("one name, two roots", named_alike, [("shared file name", "v1.mp4")]),
        ("gold missing", lambda f: f.ask("gold", answer="up"), [("gold not among candidates", "gold-0000")]),
        ("gold twice", lambda f: f.ask("twice", candidates=["left", "up", "left"]), [("duplicate gold", "twice-0000")]),
        ("gold rewritten", lambda f: f.ask("case", candidates=["left", " Left."]), [("candidate equals gold", "case-0000")]),
        ("others alike", lambda f: f.ask("alike", candidates=["left", "up", "Up"]), [("duplicate candidates", "alike-0000")]),
        ("one candidate", lambda f: f.ask("one", candidates=["left"]), [("single candidate", "one-0000")]),
        ("no object", lambda f: f.tasks.update(text=["a.mp4"]), [("malformed item", "text-0000")]),
        ("outside", link_out, [("path leaves the root", "outside-0000")]),
        ("copied clip", copied, [("duplicate clip", "second.mp4")]),
        ("copied frames", copied_frames, [("duplicate clip", "frames_b")]),
        ("sorted by text", sorted_texts, [("sorted by gold", "sorted")]),
        ("sorted by place", sorted_places, [("sorted by gold", "blocks")]),
        ("frequent gold", frequent, [("text bias above chance", "counted")]),
        ("gold first", first_places, [("uneven gold positions", "placed")]),
        ("frame of nothing", lambda f: f.ask("to_nothing", framed(f, "nothing.png")), [("unusable frame", "to_nothing-0000")]),
        ("frame in a circle", lambda f: f.ask("to_00020", framed(f, "00020.png")), [("unusable frame", "to_00020-0000")]),
        (
            "frame from outside",
            lambda f: f.ask("to_away", framed(f, "../../away.png")),
            [("path leaves the root", "to_away-0000")],
        ),
        ("half a character", lambda f: f.ask("half", question="Wh\ud800t?"), [("malformed item", "half-0000")]),
        ("half a name", lambda f: f.ask("named", "\udfff.mp4"), [("unusable path", "named-0000")]),
        ("27 candidates", lambda f: f.ask("many", candidates=["left", *WORDS[:26]]), [("malformed item", "many-0000")]),
        ("no candidates", lambda f: f.ask("none", candidates=[]), [("gold not among candidates", "none-0000")]),
        ("two answers", lambda f: f.ask("either", **{"~answer": "right"}), [("malformed item", "either-0000")]),
        ("one key twice", lambda f: f.ask("keys", **{"~fps": 3, "fps": 4}), [("duplicate key", "keys-0000")]),
        ("no question", lambda f: f.ask("blank", question=" "), [("empty question", "blank-0000")]),
        ("one item twice", lambda f: twice(f, "again", "left"), [("duplicate item", "again-0001")]),
        ("another answer", lambda f: twice(f, "other", "right"), [("conflicting answers", "other-0001")]),
        ("a bell", lambda f: f.ask("bell", candidates=["left", "a\abell"]), [("control characters", "bell-0000")]),
        ("a turn's mark", lambda f: f.ask("mark", question="What [INST]?"), [("conversation markers", "mark-0000")]),
        ("a long text", lambda f: f.ask("long", question="What?" * 4000), [("very long text", "long-0000")]),
        ("half a wmv", lambda f: f.ask("wmv", from_stock(f, "half.wmv")), [("truncated video", "half.wmv")]),
        ("half an mpg", lambda f: f.ask("mpg", from_stock(f, "half.mpg")), [("ends within a packet", "half.mpg")]),
        ("a lost frame", lambda f: f.ask("lost", from_stock(f, "lost.mkv")), [("undecodable frames", "lost.mkv")]),
    ]
}


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
    return expected, found(check_benchmark(str(folder.root), FRAMES))


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
    """The other way around: no finding rests on another fault."""
    FAULTS[name][0](folder)
    folder.write()
    seen = found(check_benchmark(str(folder.root), FRAMES))
    assert seen == FAULTS[name][1]


def test_findings_say_what_and_where(folder):
    planted(folder)
    said = {one.subject: one.detail for one in check_benchmark(str(folder.root), FRAMES).findings}
    assert said["short.mp4"] == "5 of 8 frames (short-0000)"
    assert said["s.mp4 [0.5-1 s]"] == "6 of 8 frames (span-0000)"  # both ends are shown
    assert said["v1.mp4"] == "perception/videos/v1.mp4, clevrer/video_validation/v1.mp4"
    assert "'left' is 100% of the first quarter and 50% of all" in said["sorted"]
    assert "2 is 0%" not in said["blocks"]
    assert "1 is 100% of the first quarter and 50% of all" in said["blocks"]
    assert "correct in 87.5%, chance is 50.0%" in said["counted"]
    assert said["to_nothing-0000"] == "to_nothing/00020.png is a broken link or a cycle of links"
    assert said["to_away-0000"] == "to_away/00020.png is a link out of video"
    assert said["half-0000"] == "'question' holds \\ud800, an unpaired surrogate and no character, at 2"
    assert said["many-0000"] == "27 candidates; at most 26 can be listed by letter"
    assert said["either-0000"] == "'answer' is given 2 times: 'left', then 'right'"
    assert said["keys-0000"] == "given more than once: 'fps'"
    assert said["again-0001"] == "the same clip, question and candidates as again-0000"
    assert said["other-0001"] == "'right' here, 'left' in other-0000"
    assert said["bell-0000"] == r"candidate: '\x07'"
    assert said["long-0000"] == "question: 20,000 characters"
    assert said["lost.mkv"] == "59 of 60 frames can be decoded (lost-0000)"
    assert said["second.mp4"] == "same content as first.mp4"


def test_usable_items_and_the_figures_of_each_task(folder):
    planted(folder)
    checkup = check_benchmark(str(folder.root), FRAMES)
    tasks = {task.task: task for task in checkup.tasks}
    assert (tasks["broken"].entries, tasks["broken"].usable, tasks["broken"].chance) == (1, 0, None)
    assert (tasks["placed"].positions, tasks["placed"].chance, tasks["placed"].candidates) == ((ITEMS, 0, 0, 0), 0.25, (4, 4))
    assert checkup.entries == sum(len(entries) for entries in folder.tasks.values())
    assert checkup.entries - checkup.usable == 19  # those of the reader, three broken clips, a start behind the end
    assert checkup.count(ERROR) == 21  # and a gold answer in two writings and one question's two, which are not left out


def lost_frames(folder: Folder) -> None:
    """An mp4 whose index stands in front and whose last frames are cut off."""
    path, noise = folder.root / "video/lost.mp4", np.random.default_rng(5).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in noise:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: 2 * path.stat().st_size // 3])
    folder.ask("lost", path.name)


def test_headers_tell_all_but_what_only_decoding_can(folder, monkeypatch):
    expected, seen = planted(folder)
    lost_frames(folder)
    Image.new("RGB", (16, 16)).save(folder.root / "video/whole.png")
    (folder.root / "video/broken.png").write_bytes(b"no image")
    folder.ask("pictures", "whole.png")
    folder.ask("pictures", "broken.png")
    (folder.root / "video/empty").mkdir()
    folder.ask("pictures", "empty")
    expected["no frames", "empty"] += 1
    shutil.rmtree(folder.root / "json")
    folder.write()
    assert found(check_benchmark(str(folder.root), FRAMES)) - expected == {
        ("broken video", "lost.mp4"): 1,
        ("broken image", "broken.png"): 1,
    }
    monkeypatch.setattr(Clip, "read", lambda *_: pytest.fail("a clip was decoded"))
    checkup = check_benchmark(str(folder.root), FRAMES, decode=False)
    assert expected - found(checkup) == {("undecodable frames", "lost.mkv"): 1}
    assert found(checkup) - expected == Counter()
    assert seen < expected
    assert (checkup.decoded, checkup.unknown_length) == (False, 0)
    assert "broken or lost frames or images remain undetected" in summary(checkup)


def test_videos_whose_headers_tell_no_length_are_counted(folder, monkeypatch):
    for clip_ in (folder.new(), folder.new()):
        folder.ask("asked", clip_)
    folder.write()
    monkeypatch.setattr(
        "qtablate.validate.media.run_isolated", lambda path, *_: None if path.name == "c1.mp4" else VideoLength(20, 10.0)
    )
    checkup = check_benchmark(str(folder.root), FRAMES, decode=False)
    assert (checkup.unknown_length, checkup.usable, checkup.findings) == (1, 2, ())
    assert "broken or lost frames or images, and the length of 1 video, remain undetected" in summary(checkup)


def test_an_exported_world_is_healthy(tmp_path):
    export_world(tmp_path / "world", 3)
    shown: list[str] = []
    checkup = check_benchmark(str(tmp_path / "world"), 16, progress=lambda clips: shown.extend(clips) or clips)
    assert [one for one in checkup.findings if one.severity == ERROR] == []
    assert (checkup.entries, checkup.usable, len(shown)) == (60, 60, checkup.clips)


def leak(folder: Folder) -> None:
    folder.ask("asked", folder.new("benchmark.mp4"))
    shutil.copy(folder.root / "video/benchmark.mp4", folder.root / "video/renamed.mp4")
    folder.tell("renamed.mp4")


def copied_sample(folder: Folder) -> None:
    name = folder.new("one.mp4")
    shutil.copy(folder.root / "video" / name, folder.root / "video/two.mp4")
    folder.tell(name)
    folder.tell("two.mp4")


def broken_sample(folder: Folder) -> None:
    (folder.root / "video/broken.mp4").write_bytes(b"no video")
    folder.tell("broken.mp4")


def broken_image(folder: Folder) -> None:
    (folder.root / "video/broken.png").write_bytes(b"no image")
    folder.samples.append({"image": "broken.png", "QA": [{"q": "?", "a": "a disc"}]})


def told_again(folder: Folder) -> None:
    folder.samples.append(folder.samples[0])


def two_sources(folder: Folder) -> None:
    folder.tell(folder.new("extra/e.mp4"))


def turn(**changes: str) -> list[dict[str, str]]:
    return [{"i": "Tell.", "q": "What?", "a": "a disc", **changes}]


SAMPLE_FAULTS: dict[str, tuple[Callable[[Folder], None], list[tuple[str, str]]]] = {
    "leak": (leak, [("training clip in benchmark", "renamed.mp4")]),
    "copied": (copied_sample, [("duplicate clip", "two.mp4")]),
    "broken": (broken_sample, [("broken video", "broken.mp4")]),
    "broken image": (broken_image, [("broken image", "broken.png")]),
    "missing": (lambda f: f.tell("none.mp4"), [("missing video", "sample #")]),
    "malformed": (lambda f: f.tell(QA=[]), [("malformed sample", "sample #")]),
    "outside": (lambda f: f.tell("../train.json"), [("path leaves the root", "sample #")]),
    "turned": (lambda f: f.tell(start=2, end=1), [("empty time span", "sample #")]),
    "late": (lambda f: f.tell(f.new("l.mp4"), start=9), [("start past the end", "l.mp4 [9-None s]")]),
    "short": (lambda f: f.tell(f.new("s.mp4"), end=0.3), [("fewer frames than sampled", "s.mp4 [None-0.3 s]")]),
    "caption": (lambda f: f.tell(QA=turn(q=" ")), [("no question", "sample #")]),
    "silent": (lambda f: f.tell(QA=turn(a="")), [("empty answer", "sample #")]),
    "half a character": (lambda f: f.tell(QA=turn(a="a d\ud800sc")), [("malformed sample", "sample #")]),
    "half an instruction": (lambda f: f.tell(QA=turn(i="\udc00")), [("malformed sample", "sample #")]),
    "two answers": (lambda f: f.tell(QA=[{**turn()[0], "~a": "a cube"}]), [("malformed sample", "sample #")]),
    "key twice": (lambda f: f.tell(QA=[{**turn()[0], "~a": "a disc"}]), [("duplicate key", "sample #")]),
    "again": (told_again, [("duplicate sample", "sample #")]),
    "bell": (lambda f: f.tell(QA=turn(a="a\abell")), [("control characters", "sample #")]),
    "mark": (lambda f: f.tell(QA=turn(a="a disc ###Human: ")), [("conversation markers", "sample #")]),
    "long": (lambda f: f.tell(QA=turn(a="a disc " * 3000)), [("very long text", "sample #")]),
    "frame": (lambda f: f.tell(framed(f, "nothing.png")), [("unusable frame", "sample #")]),
    "torn": (lambda f: f.tell(from_stock(f, "half.mpg")), [("ends within a packet", "half.mpg")]),
    "sources": (two_sources, [("several sources", "."), ("several sources", "extra")]),
}


@pytest.mark.parametrize("without", ["", *SAMPLE_FAULTS])
def test_training_files_without_a_fault_lack_its_finding_alone(folder, without):
    folder.tell()
    expected: Counter[tuple[str, str]] = Counter()
    for name, (plant, findings) in SAMPLE_FAULTS.items():
        if name != without:
            expected += Counter((kind, subject.replace("#", str(len(folder.samples)))) for kind, subject in findings)
            plant(folder)
    folder.ask("asked")
    folder.write()
    root = folder.root
    checkup = check_training(str(root / "train.json"), str(root / "video"), FRAMES, bench=str(root))
    assert found(checkup) == expected
    [first, *_] = checkup.sources
    assert (first.source, first.medium, first.pairs) == (".", "video", (1, 1.0, 1))
    if not without:
        assert (checkup.entries, checkup.usable) == (len(folder.samples), len(folder.samples) - 11)
        assert (first.without_question, first.empty_answers) == (1, 1)
        assert found(check_training(str(root / "train.json"), str(root / "video"), FRAMES)) == expected - Counter(
            SAMPLE_FAULTS["leak"][1]
        )


def test_one_file_in_both_sets_is_a_leak(folder):
    folder.ask("asked", folder.new("a.mp4"), start=0, end=1)
    folder.tell("a.mp4")
    folder.write()
    checkup = check_training(str(folder.root / "train.json"), str(folder.root / "video"), FRAMES, bench=str(folder.root))
    assert [(one.kind, one.subject, one.detail) for one in checkup.findings] == [
        ("training clip in benchmark", "a.mp4", "is the benchmark's a.mp4 (sample 0)")
    ]


def test_a_training_file_without_a_usable_sample_is_told_not_refused(folder):
    folder.new()
    folder.tell("none.mp4")
    folder.write()
    checkup = check_training(str(folder.root / "train.json"), str(folder.root / "video"), FRAMES)
    assert (checkup.entries, checkup.usable, checkup.sources) == (1, 0, ())
    with pytest.raises(DataError, match="no file"):
        check_training(str(folder.root / "nothing.json"), "", FRAMES)


def items(golds: list[str], options: list[list[str]], clips: list[str] | None = None) -> list[Item]:
    return [
        Item(f"t-{n}", "t", clips[n] if clips else f"c{n}", "?", tuple(texts), texts.index(gold))
        for n, (gold, texts) in enumerate(zip(golds, options, strict=True))
    ]


SHARES = [[100, 100], [50] * 4, [150, 30, 20], [190, 10], [5] * 40, [3] * 66, [40] * 5, [199, 1], [192, 8], [12, 12], [7, 7]]


@pytest.mark.parametrize("sizes", SHARES, ids=str)
def test_shuffled_files_are_hardly_ever_taken_for_sorted_and_sorted_ones_are(sizes):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    dice = random.Random(0)
    alarms, z = 0, []
    for _ in range(1000):
        dice.shuffle(labels)
        seen = sortedness(labels)
        alarms += seen is not None and seen.score >= SORTED_SCORE and seen.z >= SORTED_Z
        z += [seen.z] if seen else []
    assert alarms == 0
    blocks = sortedness(sorted(labels))
    if len(sizes) * 4 > len(labels) or len(labels) - max(sizes) < 8:
        assert blocks is None
        assert z == []
        return
    assert (blocks.score, blocks.equal_neighbors) == (1.0, len(labels) - len(sizes))
    assert blocks.z > SORTED_Z or len(labels) < 30
    assert abs(np.mean(z)) < 0.15  # the formulas of its mean and spread
    assert abs(np.std(z) - 1) < 0.1


def test_alternating_labels_are_not_sorted():
    assert sortedness(["a", "b"] * 50).score == pytest.approx(-1, abs=0.05)


def test_chance_and_places_where_candidates_vary():
    options = [["a"], ["a", "b"], ["a", "b", "c", "d"], ["a", "b", "c", "d"]]
    some = items(["a", "b", "d", "a"], options)
    assert chance(some) == (1 + 1 / 2 + 1 / 4 + 1 / 4) / 4
    assert gold_positions(some) == (2, 1, 0, 1)
    assert gold_positions_p(items(["a"], [["a"]])) == 1.0


def test_with_one_number_of_candidates_it_is_pearsons_test():
    golds = ["a"] * 30 + ["b"] * 20 + ["c"] * 25 + ["d"] * 5
    assert gold_positions_p(items(golds, [list("abcd")] * 80)) == pytest.approx(stats.chisquare([30, 20, 25, 5]).pvalue)


def test_p_is_uniform_where_candidates_vary_and_places_are_random():
    dice = random.Random(0)
    options = [list("abcd")[: 1 + n % 4] for n in range(200)]
    p = [gold_positions_p(items([dice.choice(texts) for texts in options], options)) for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    skewed = [texts[0] for texts in options]
    assert gold_positions_p(items(skewed, options)) < 1e-10


def test_the_prior_is_that_of_the_other_items():
    options = [["yes", "no"]] * 4
    one = text_bias(items(["yes", "yes", "yes", "no"], options))
    assert one.accuracy == 0.75
    assert text_bias(items(["yes", "yes", "no", "no"], options)).accuracy == 0.0  # the others always say the other
    assert text_bias(items(["a", "b", "c"], [["a", "x"], ["b", "x"], ["c", "x"]])).accuracy == 0.5  # nothing repeats: ties
    assert text_bias(items(["Yes.", "yes"], [["Yes.", "no"], ["no", "yes"]])).accuracy == 1.0
    # 1 and 0 twice each around 3/4, in clips of two: by hand
    twice = text_bias(items(["yes", "yes", "yes", "no"], options, ["c", "c", "d", "d"]))
    assert twice.stderr == pytest.approx(np.sqrt(2 * (0.5**2 + 0.5**2)) / 4)
    assert np.isnan(text_bias(items(["yes", "no"], options[:2], ["c", "c"])).stderr)


def test_the_prior_of_random_golds_raises_no_alarm_and_a_strong_one_does():
    dice = random.Random(0)
    options = [dice.sample(["1", "2", "3", "4"], 3) for _ in range(200)]
    z = [text_bias(items([dice.choice(texts) for texts in options], options)).z for _ in range(300)]
    assert max(z) < TEXT_BIAS_Z
    assert (
        text_bias(items([max(texts) if n % 2 else dice.choice(texts) for n, texts in enumerate(options)], options)).z
        > TEXT_BIAS_Z
    )


def test_twins_are_equal_contents_only(tmp_path):
    for name, content in {"a": b"12", "b": b"21", "c": b"12", "empty": b"", "void": b"", "d": b"123"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in ("a", "b", "c", "empty", "void", "d", "gone", "a")]
    assert duplicate_groups(paths) == [[0, 2, 7]]
