"""Hostile data beside good ones: the bad entry is named and left out, by readers and checks, and all else is as it was."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import clips
import pytest
from PIL import Image

from qtablate.config import DataConfig
from qtablate.data.instructions import InstructionFile
from qtablate.data.mvbench import MVBench
from qtablate.data.sources import open_benchmark, training_sources
from qtablate.data.texts import control_characters
from qtablate.errors import BadMedia, DataError
from qtablate.validate.check import check_benchmark, check_training
from qtablate.validate.duplicates import duplicate_groups
from qtablate.validate.findings import KINDS
from qtablate.video.container import ends_within_packet, index_packets
from qtablate.video.frames import frame_files, read_clip
from qtablate.video.paths import file_state

Kind, write = clips.Kind, clips.write

FRAMES, SIDE = 4, 16
GOOD = [
    {"video": "a.mp4", "question": "What moves?", "candidates": ["left", "right"], "answer": "left"},
    {"video": "frames", "question": "Où ?", "candidates": ["un", "deux", "trois"], "answer": "trois"},
    {"video": "b.png", "question": "Which color?", "candidates": ["red", "blue"], "answer": "red"},
]
TOLD = [
    {"video": "a.mp4", "QA": [{"i": "Answer.", "q": "What moves?", "a": "a disc"}]},
    {"video": "frames", "QA": [{"q": "", "a": "a gray square"}]},
    {"image": "b.png", "QA": [{"q": "Which color?", "a": "red"}]},
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write(folder / "a.mp4", Kind(".mp4", frames=12))
    frames(folder / "frames")
    Image.new("RGB", (20, 16), (200, 0, 0)).save(folder / "b.png")
    return folder


@pytest.fixture
def root(tmp_path: Path, pristine: Path) -> Path:
    """With a frame folder, a video and a picture below video/, hard links to what stays as it is."""
    root = tmp_path / "data"
    (root / "json").mkdir(parents=True)
    (root / "video/frames").mkdir(parents=True)
    for file in pristine.rglob("*.*"):
        os.link(file, root / "video" / file.relative_to(pristine))
    return root


def frames(folder: Path) -> Path:
    folder.mkdir()
    for n in range(1, 7):
        Image.new("RGB", (16, 16), (n * 30,) * 3).save(folder / f"{n:05d}.png")
    return folder


def as_json(entries: object) -> str:
    """A key "~q" is another "q" of the same entry; "#" is a list in lists, as deep as it can be read and hardly be shown."""
    deep = sys.getrecursionlimit() - 120
    return json.dumps(entries).replace('"~', '"').replace('"#"', "[" * deep + "]" * deep)


def asked(root: Path, *entries: object, raw: str = "") -> MVBench:
    (root / "json/mine.json").write_text(raw or as_json(entries))
    return MVBench(str(root), FRAMES, SIDE)


def told(root: Path, *entries: object, raw: str = "") -> InstructionFile:
    (root / "train.json").write_text(raw or as_json(entries))
    return InstructionFile(str(root / "train.json"), str(root / "video"), FRAMES, SIDE)


def shown(data: MVBench | InstructionFile) -> dict[str, bytes]:
    return {clip: data.frames(clip).tobytes() for clip in dict.fromkeys(one.clip for one in used(data))}


def used(data: MVBench | InstructionFile) -> list:
    return data.items if isinstance(data, MVBench) else data.samples


def texts(data: MVBench | InstructionFile) -> list[tuple]:
    if isinstance(data, MVBench):
        return [(item.clip, item.question, item.options, item.answer, item.medium) for item in data.items]
    return [(sample.clip, sample.pairs, sample.instruction, sample.medium) for sample in data.samples]


def with_frame(root: Path, target: str) -> str:
    """A folder of frames whose third is a link."""
    frame = frames(root / "video/linked") / "00003.png"
    frame.unlink()
    frame.symlink_to(target)
    return "linked"


def with_pipe(root: Path) -> str:
    frame = frames(root / "video/piped") / "00003.png"
    frame.unlink()
    os.mkfifo(frame)
    return "piped"


def from_outside(root: Path) -> str:
    Image.new("RGB", (16, 16)).save(root / "secret.png")
    return with_frame(root, "../../secret.png")


MEDIA: dict[str, tuple[Callable[[Path], str], str, str]] = {
    "dangling frame": (lambda root: with_frame(root, "nothing.png"), "unusable frame", "linked/00003.png is a broken link"),
    "looping frame": (
        lambda root: with_frame(root, "00003.png"),
        "unusable frame",
        "00003.png is a broken link or a cycle",
    ),
    "frame out of the root": (from_outside, "path leaves the root", "linked/00003.png is a link out of video"),
    "frame that is a pipe": (with_pipe, "not a file", "piped/00003.png is a folder, a pipe"),
    "half a character": (lambda _: "\ud83d.mp4", "unusable path", "surrogates not allowed"),
}


def seen(data: MVBench | InstructionFile) -> tuple[list[tuple], dict[str, bytes], dict[str, str]]:
    """Texts, frames and keys of what is used."""
    pixels = shown(data)
    return texts(data), pixels, {clip: data.key(clip) for clip in pixels}


def beside_good_items(root: Path, entry: object) -> tuple[str, str]:
    """(kind, detail) of the one problem of an item that stands between good ones; these are as they are without it."""
    alone, bench = seen(asked(root, *GOOD)), asked(root, GOOD[0], entry, *GOOD[1:])
    assert [item.id for item in bench.items] == ["mine-0000", "mine-0002", "mine-0003"]
    assert seen(bench) == alone
    [problem] = bench.problems
    assert problem.subject == "mine-0001"
    findings = check_benchmark(str(root), FRAMES, decode=False).findings
    assert (problem.kind, "mine-0001", problem.detail) in {(one.kind, one.subject, one.detail) for one in findings}
    assert problem.kind in KINDS
    return problem.kind, problem.detail


def beside_good_samples(root: Path, entry: object) -> tuple[str, str]:
    alone, data = seen(told(root, *TOLD)), told(root, TOLD[0], entry, *TOLD[1:])
    assert [sample.id for sample in data.samples] == ["0", "2", "3"]
    assert seen(data) == alone
    [problem] = data.problems
    assert problem.subject == "sample 1"
    findings = check_training(str(root / "train.json"), str(root / "video"), FRAMES, decode=False).findings
    assert (problem.kind, "sample 1", problem.detail) in {(one.kind, one.subject, one.detail) for one in findings}
    return problem.kind, problem.detail


@pytest.mark.parametrize("name", MEDIA)
def test_hostile_media_are_named_and_the_others_are_shown_as_before(root, name):
    plant, kind, detail = MEDIA[name]
    hostile = plant(root)
    for found in (
        beside_good_items(root, {**GOOD[0], "video": hostile}),
        beside_good_samples(root, {**TOLD[0], "video": hostile}),
    ):
        assert found[0] == kind
        assert detail in found[1]


HALF = "holds \\ud83d, an unpaired surrogate and no character, at 1"
ITEMS: dict[str, tuple[dict[str, object], str]] = {
    "half a character in a question": ({"question": "W\ud83dhat?"}, f"'question' {HALF}"),
    "half a character in a candidate": ({"candidates": ["left", "r\ud83d"]}, f"'candidates' {HALF}"),
    "half a character in the answer": ({"answer": "l\ud83d"}, f"'answer' {HALF}"),
    "27 candidates": ({"candidates": ["left", *map(str, range(26))]}, "27 candidates; at most 26 can be listed by letter"),
    "two questions in one": ({"~question": "Why?"}, "'question' is given 2 times: 'What moves?', then 'Why?'"),
    "a question that is a list in lists": ({"question": "#"}, "'question' should be a str, is [[["),
}
SAMPLES: dict[str, tuple[dict[str, object], str]] = {
    "half a character in a question": ({"q": "W\ud83dhat?"}, f"'q' {HALF}"),
    "half a character in an answer": ({"a": "l\ud83d"}, f"'a' {HALF}"),
    "half a character in an instruction": ({"i": "l\ud83d"}, f"'i' {HALF}"),
    "two answers in one": ({"~a": "a cube"}, "'a' is given 2 times: 'a disc', then 'a cube'"),
}


@pytest.mark.parametrize("name", ITEMS)
def test_hostile_items_are_named_and_the_others_stay(root, name):
    changes, detail = ITEMS[name]
    kind, said = beside_good_items(root, {**GOOD[0], **changes})
    assert kind == "malformed item"
    assert said.startswith(detail)


@pytest.mark.parametrize("name", SAMPLES)
def test_hostile_samples_are_named_and_the_others_stay(root, name):
    changes, detail = SAMPLES[name]
    assert beside_good_samples(root, {**TOLD[0], "QA": [{**TOLD[0]["QA"][0], **changes}]}) == ("malformed sample", detail)


def test_26_candidates_are_asked(root):
    bench = asked(root, {**GOOD[0], "candidates": ["left", *map(str, range(25))]})
    assert (bench.problems, len(bench.items[0].options)) == ([], 26)


def test_links_within_the_root_and_to_nothing_beside_the_frames_harm_nobody(root):
    """Only what would be shown is looked at."""
    linked = root / "video" / with_frame(root, "../frames/00003.png")
    (linked / "notes.txt").symlink_to("nothing.txt")
    (linked / "more").mkdir()
    bench = asked(root, {**GOOD[0], "video": "linked"})
    assert bench.problems == []
    assert bench.frames("linked").shape == (FRAMES, SIDE, SIDE, 3)
    assert b"('notes.txt', -1, " in file_state(linked)
    assert duplicate_groups([linked, root / "video/frames"]) == [[0, 1]]


def test_frames_numbered_in_other_digits_are_sorted_not_a_bug(tmp_path):
    for name in ("2.png", "10.png", "²3.png", "²"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in frame_files(tmp_path)] == ["2.png", "10.png", "²3.png"]


def test_a_task_whose_name_is_not_utf8_has_one_that_can_be_written(root):
    (root / "json" / os.fsdecode(b"caf\xe9.json")).write_text(json.dumps(GOOD))
    assert {item.task for item in MVBench(str(root), FRAMES, SIDE).items} == {"caf\\xe9"}


DEEP = "[" * 100_000 + "]" * 100_000
WHOLE: dict[str, tuple[bytes, str]] = {
    "nested deep": (DEEP.encode(), "is not readable JSON: it is nested too deeply"),
    "not UTF-8": ('[{"video": "é"}]'.encode("latin-1"), "is not JSON: it is not UTF-8 text .*save it as UTF-8"),
    "UTF-16": ("[]".encode("utf-16"), "is not UTF-8 text"),
    "a number without end": (b"[" + b"1" * 5000 + b"]", "is not JSON: "),
    "empty": (b"", "is not JSON: Expecting value"),
}


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as raised:
        call()
    return str(raised.value)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_cannot_be_read_is_one_message_that_names_it(root, name):
    content, message = WHOLE[name]
    asked(root, *GOOD)
    told(root, *TOLD)
    for file in (root / "json/mine.json", root / "train.json", root / "tasks.json", root / "mix.yaml"):
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(content)
        if file.suffix == ".yaml":
            said = refusal(lambda file=file: training_sources(DataConfig(train=str(file))))
        elif file.name == "train.json":
            said = refusal(lambda: check_training(str(root / "train.json"), str(root / "video"), FRAMES))
        else:
            said = refusal(lambda: check_benchmark(str(root), FRAMES))
        assert str(file) in said
        if file.suffix != ".yaml":
            assert re.search(message, said)
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)


def test_a_byte_order_mark_is_no_text(root):
    bench, data = seen(asked(root, *GOOD)), seen(told(root, *TOLD))
    mark = "\ufeff"
    (root / "tasks.json").write_text(mark + '{"mine": "."}')
    assert seen(asked(root, raw=mark + json.dumps(GOOD))) == bench
    assert seen(told(root, raw=mark + json.dumps(TOLD))) == data
    (root / "mix.yaml").write_text(mark + "- {file: train.json}")
    assert [part.file for part in training_sources(DataConfig(train=str(root / "mix.yaml")))] == [str(root / "train.json")]


def test_pipes_and_links_to_nothing_are_never_waited_for(root):
    os.mkfifo(root / "json/pipe.json")
    assert "pipe.json is not a regular file; expected a JSON file" in refusal(lambda: asked(root, *GOOD))
    (root / "json/pipe.json").unlink()
    (root / "json/lost.json").symlink_to("nothing.json")
    assert "json/lost.json; expected a JSON file" in refusal(
        lambda: asked(root, *GOOD)
    )  # a task that is lost changes the average
    (root / "json/lost.json").unlink()
    (root / "tasks.json").symlink_to("nothing.json")
    assert "data/tasks.json; expected a JSON file" in refusal(lambda: asked(root, *GOOD))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mine": "/etc"}, r"tasks\.json: the folder of 'mine' should lie below .*video, is '/etc'.*link that folder there"),
        ({"mine": ".."}, r"the folder of 'mine' should lie below .*video, is '\.\.'"),
        ({"mine": "a/../../.."}, "without '..'"),
        ({"other": "../x"}, "the folder of 'other'"),
        ({"~mine": "a", "mine": "b"}, "names 'mine' more than once"),
    ],
)
def test_a_table_of_tasks_leads_nowhere_else(root, table, message):
    (root / "tasks.json").write_text(json.dumps(table).replace('"~', '"'))
    assert re.search(message, refusal(lambda: asked(root, *GOOD)))
    assert re.search(message, refusal(lambda: check_benchmark(str(root), FRAMES)))


def test_a_folder_that_the_table_names_may_be_a_link_to_another_disk(root, pristine):
    (root / "video/disk").symlink_to(pristine)
    (root / "tasks.json").write_text('{"mine": "disk"}')
    bench = asked(root, *GOOD)
    assert (bench.problems, [item.clip for item in bench.items]) == ([], ["disk/a.mp4", "disk/frames", "disk/b.png"])


YAML = {
    "one key twice": ("- {file: a.json, file: b.json}", "'file' is given twice"),
    "nested deep": ("[" * 1000 + "]" * 1000, "is not readable YAML: it is nested too deeply"),
    "no date": ("- {file: 2001-99-99}", "is not YAML: month must be in 1..12"),
    "a huge weight": (f"- {{file: a.json, weight: {'9' * 400}}}", "is not a positive number"),
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_one_message(root, name):
    text, message = YAML[name]
    (root / "mix.yaml").write_text(text)
    said = refusal(lambda: training_sources(DataConfig(train=str(root / "mix.yaml"))))
    assert str(root / "mix.yaml") in said
    assert re.search(message, said)


def test_a_benchmark_of_ones_own_is_held_to_the_same(root):
    changes = ["options=('a',) * 27", "options=()", "answer=2", "question='\\ud800'", "id='\\ud800'"]
    (root / "own.py").write_text(
        "from dataclasses import replace\n"
        "from qtablate.datatypes import Item\n"
        "class Bench:\n"
        "    fingerprint, problems = 'x', []\n"
        "    clips = key = frames = None\n"
        "    good = Item('i', 't', 'c', '?', ('a', 'b'), 0)\n"
        f"    items = [good, {', '.join(f'replace(good, {one})' for one in changes)}, good]\n"
        "def benchmark(frames, side, items_a_task):\n"
        "    return Bench()\n"
    )
    bench = open_benchmark(DataConfig(bench=f"custom:{root}/own.py"), {"num_frames": 4, "vision_config": {"image_size": 16}})
    assert len(bench.items) == 2
    assert [problem.kind for problem in bench.problems] == [
        "malformed item",
        "malformed item",
        "gold not among candidates",
        "malformed item",
        "malformed item",
    ]
    assert bench.problems[-1].subject == "\\ud800"


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


@pytest.mark.parametrize("codec", ["wmv2", "mpeg4"])
def test_a_wmv_that_was_cut_is_truncated(tmp_path, codec):
    path = write(tmp_path / "a.wmv", Kind(".wmv", codec))
    whole = path.stat().st_size
    assert (index_packets(path).truncated, read_clip(path, 4, 16).shape) == (False, (4, 16, 16, 3))
    for size in (whole - 1, whole // 2):
        with pytest.raises(BadMedia, match=r"truncated video: .* ends before its own header says"):
            read_clip(cut(path, size), 4, 16)


@pytest.mark.parametrize(
    ("suffix", "codec", "unit"), [(".mpg", "mpeg1video", 2048), (".vob", "mpeg2video", 2048), (".ts", "mpeg2video", 188)]
)
def test_an_mpeg_stream_cut_within_a_packet_is_seen_and_between_two_cannot_be(tmp_path, suffix, codec, unit):
    path = write(tmp_path / f"a{suffix}", Kind(suffix, codec), rate=25)
    assert not ends_within_packet(path)
    units = path.stat().st_size // unit
    assert ends_within_packet(cut(path, units * unit - 100))
    assert ends_within_packet(cut(path, units // 2 * unit + 9))
    assert not ends_within_packet(cut(path, units // 2 * unit))  # the limit that the doctor's docstring names


def test_only_what_is_no_text_is_a_control_character():
    assert control_characters("tabs\t, lines\r\n, ünïcödé, 动作, 👋🏽") == []
    assert control_characters("a\0b\x1b[31m\x85\0") == ["\0", "\x1b", "\x85"]
