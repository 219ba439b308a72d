"""Planted faults in benchmarks are found by name, each by its own finding; healthy and shuffled files raise no alarm."""

import shutil
from collections import Counter
from collections.abc import Callable

import av
import numpy as np
import pytest
from datafolder import FRAMES, ITEMS, WORDS, Folder, clip, found, framed, from_stock
from PIL import Image

from qtablate.data.export import export_world
from qtablate.validate.check import check_benchmark
from qtablate.validate.findings import ERROR, KINDS
from qtablate.validate.tables import summary
from qtablate.video.container import VideoLength
from qtablate.video.frames import Clip


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
        ("start after the end", lambda f: f.ask("l", f.new("l.mp4"), start=9), [("start past the end", "l.mp4 [9-None s]")]),
        ("end after the end", lambda f: f.ask("end", f.new("e.mp4"), end=9), [("end past the end", "e.mp4 [None-9 s]")]),
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
    details = {finding.subject: finding.detail for finding in check_benchmark(str(folder.root), FRAMES).findings}
    assert details["short.mp4"] == "5 of 8 frames (short-0000)"
    assert details["s.mp4 [0.5-1 s]"] == "6 of 8 frames (span-0000)"  # both ends are shown
    assert details["v1.mp4"] == "perception/videos/v1.mp4, clevrer/video_validation/v1.mp4"
    assert "'left' is 100% of the first quarter and 50% of all" in details["sorted"]
    assert "2 is 0%" not in details["blocks"]
    assert "1 is 100% of the first quarter and 50% of all" in details["blocks"]
    assert "correct in 87.5%, chance is 50.0%" in details["counted"]
    assert details["to_nothing-0000"] == "to_nothing/00020.png is a broken link or a cycle of links"
    assert details["to_away-0000"] == "to_away/00020.png is a link out of video"
    assert details["half-0000"] == "'question' holds \\ud800, an unpaired surrogate and no character, at 2"
    assert details["many-0000"] == "27 candidates; at most 26 can be listed by letter"
    assert details["either-0000"] == "'answer' is given 2 times: 'left', then 'right'"
    assert details["keys-0000"] == "given more than once: 'fps'"
    assert details["again-0001"] == "the same clip, question and candidates as again-0000"
    assert details["other-0001"] == "'right' here, 'left' in other-0000"
    assert details["bell-0000"] == r"candidate: '\x07'"
    assert details["long-0000"] == "question: 20,000 characters"
    assert details["lost.mkv"] == "59 of 60 frames can be decoded (lost-0000)"
    assert details["second.mp4"] == "same content as first.mp4"


def test_usable_items_and_the_figures_of_each_task(folder):
    planted(folder)
    report = check_benchmark(str(folder.root), FRAMES)
    tasks = {task.task: task for task in report.tasks}
    assert (tasks["broken"].entries, tasks["broken"].usable, tasks["broken"].chance) == (1, 0, None)
    assert (tasks["placed"].positions, tasks["placed"].chance, tasks["placed"].candidates) == ((ITEMS, 0, 0, 0), 0.25, (4, 4))
    assert report.entries == sum(len(entries) for entries in folder.tasks.values())
    assert report.entries - report.usable == 19  # those of the reader, three broken clips, a start after the end
    assert report.count(ERROR) == 21  # and a gold answer in two writings and one question's two, which are not left out


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


def test_headers_show_all_but_what_only_decoding_can(folder, monkeypatch):
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
    report = check_benchmark(str(folder.root), FRAMES, decode=False)
    assert expected - found(report) == {("undecodable frames", "lost.mkv"): 1}
    assert found(report) - expected == Counter()
    assert seen < expected
    assert (report.decoded, report.unknown_length) == (False, 0)
    assert "broken or lost frames or images remain undetected" in summary(report)


def test_videos_whose_headers_have_no_length_are_counted(folder, monkeypatch):
    for clip_ in (folder.new(), folder.new()):
        folder.ask("asked", clip_)
    folder.write()
    monkeypatch.setattr(
        "qtablate.validate.media.run_isolated", lambda path, *_: None if path.name == "c1.mp4" else VideoLength(20, 10.0)
    )
    report = check_benchmark(str(folder.root), FRAMES, decode=False)
    assert (report.unknown_length, report.usable, report.findings) == (1, 2, ())
    assert "broken or lost frames or images, and the length of 1 video, remain undetected" in summary(report)


def test_an_exported_world_is_healthy(tmp_path):
    export_world(tmp_path / "world", 3)
    shown: list[str] = []
    report = check_benchmark(str(tmp_path / "world"), 16, progress=lambda clips: shown.extend(clips) or clips)
    assert [finding for finding in report.findings if finding.severity == ERROR] == []
    assert (report.entries, report.usable, len(shown)) == (60, 60, report.clips)
