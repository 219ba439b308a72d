import numpy as np
import pytest

from qtablate.cell.outputs import ANSWER_COLUMNS
from qtablate.report import cell_answers
from qtablate.report.answer_rows import HEADER, Rows

ITEMS = [("a-1", "a", "clip 1"), ("a-2", "a", "clip 1"), ("b-1", "b", "clip 2")]


def answers(seed, controls=("full", "blind", "shuffled")):
    """Lines of an answers.csv: which answers are correct depends on the seed."""
    random = np.random.default_rng(seed)
    lines = []
    for control in controls:
        for item, task, clip in ITEMS:
            predicted, scores = random.integers(3), ";".join(f"{score:.6g}" for score in random.normal(size=3))
            lines.append(f"{control},{item},{task},{clip},1,{predicted},0,{int(predicted == 1)},0,3,{scores},1;1;1")
    return lines


def content(lines):
    return HEADER + "".join(f"{line}\n" for line in lines).encode()


def assert_equal(found, wanted):
    for name in ("items", "tasks", "clusters", "gold", "predicted", "options", "scores"):
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert list(found.correct) == list(wanted.correct)
    for control, values in wanted.correct.items():
        assert found.correct[control].dtype == values.dtype
        np.testing.assert_array_equal(found.correct[control], values)


def test_the_header_is_that_of_the_files_that_cells_write():
    assert HEADER.decode() == ",".join(ANSWER_COLUMNS) + "\n"


def test_a_file_like_another_one_is_read_without_a_parser_as_the_parser_reads_it():
    first = content(answers(1))
    layout = cell_answers._Layout.of(first, cell_answers._parse(first))
    for seed in range(2, 8):
        other = content(answers(seed))
        assert_equal(layout.read(other), cell_answers._parse(other))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("blind,a-1", "blind,a-3"),  # another item
        ("full,a-2,a,clip 1,1", "full,a-2,a,clip 1,2"),  # another gold option
        ("full,a-1,a,", "full,a-1,b,"),
        ("shuffled,b-1", "reversed,b-1"),
        ("a-2,a,clip 1,1,", "a-2,a,clip 1,1,-"),  # -1 or the like
        ("a-2,a,clip 1,1,", "a-2,a,clip 1,1,1"),  # two digits
        ("full,a-1,a,clip 1", 'full,a-1,a,"clip 1"'),
        (",1;1;1\nfull,b-1", ",1;1;1,\nfull,b-1"),
    ],
)
def test_what_is_not_alike_is_left_to_the_parser(old, new):
    lines = "\n".join(answers(1))
    first = content(lines.split("\n"))
    layout = cell_answers._Layout.of(first, cell_answers._parse(first))
    assert layout.read(first) is not None
    changed = lines.replace(old, new, 1)
    assert changed != lines
    assert layout.read(content(changed.split("\n"))) is None


def test_rows_in_another_order_are_read_by_the_parser(tmp_path):
    lines = answers(1)
    shuffled = [*lines[:3], lines[4], lines[3], *lines[5:]]
    path = tmp_path / "answers.csv"
    path.write_bytes(content(shuffled))
    assert cell_answers._Layout.of(content(shuffled), cell_answers._parse(content(shuffled))) is None
    assert_equal(cell_answers._read.__wrapped__(path, 0, 0), cell_answers._parse(content(lines)))


@pytest.mark.parametrize("damaged", [b"", HEADER, HEADER[:-1], content(answers(1))[:-1], content(answers(1)) + b"\n"])
def test_a_file_that_is_cut_or_goes_on_is_not_plain(damaged):
    assert Rows.of(damaged) is None
