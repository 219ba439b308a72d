"""Planted faults in training files are found by name, each by its own finding."""

import shutil
from collections import Counter
from collections.abc import Callable

import pytest
from datafolder import FRAMES, Folder, found, framed, from_stock

from qtablate.errors import DataError
from qtablate.validate.check import check_training


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
    report = check_training(str(root / "train.json"), str(root / "video"), FRAMES, bench=str(root))
    assert found(report) == expected
    [first, *_] = report.sources
    assert (first.source, first.medium, first.pairs) == (".", "video", (1, 1.0, 1))
    if not without:
        assert (report.entries, report.usable) == (len(folder.samples), len(folder.samples) - 11)
        assert (first.without_question, first.empty_answers) == (1, 1)
        assert found(check_training(str(root / "train.json"), str(root / "video"), FRAMES)) == expected - Counter(
            SAMPLE_FAULTS["leak"][1]
        )


def test_one_file_in_both_sets_is_a_leak(folder):
    folder.ask("asked", folder.new("a.mp4"), start=0, end=1)
    folder.tell("a.mp4")
    folder.write()
    report = check_training(str(folder.root / "train.json"), str(folder.root / "video"), FRAMES, bench=str(folder.root))
    assert [(finding.kind, finding.subject, finding.detail) for finding in report.findings] == [
        ("training clip in benchmark", "a.mp4", "is the benchmark's a.mp4 (sample 0)")
    ]


def test_a_training_file_without_a_usable_sample_is_reported_not_refused(folder):
    folder.new()
    folder.tell("none.mp4")
    folder.write()
    report = check_training(str(folder.root / "train.json"), str(folder.root / "video"), FRAMES)
    assert (report.entries, report.usable, report.sources) == (1, 0, ())
    with pytest.raises(DataError, match="no file"):
        check_training(str(folder.root / "nothing.json"), "", FRAMES)
