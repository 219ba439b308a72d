"""What a running sweep looks like: every phase that a job reports has its words, and shares grow."""

import io
import re
from pathlib import Path

from rich.console import Console

from qtablate import cell
from qtablate.cli.progress import ProgressDisplay
from qtablate.durations import format_duration
from qtablate.execute.events import Event, Progress

PHASES = sorted(
    set(re.findall(r'Progress\("(\w+)"', "".join(path.read_text() for path in Path(cell.__file__).parent.glob("*.py"))))
)


def test_every_phase_that_a_job_reports_has_its_words():
    assert PHASES == ["evaluate", "features", "probe", "tokens", "train"]
    for phase in PHASES:
        board = ProgressDisplay("Cells", {"k": "a cell"}, 1)
        board.take(Event("k", "started"))
        board.take(Event("k", "progress", progress=Progress(phase, 1, 4)))
        [line] = board.status_lines()
        assert "a cell: " in line
        assert " 1/4" in line
        board.renderable()


def test_a_cell_is_further_with_every_phase():
    shares = [Progress(phase, done, 2).share for phase in ("train", "evaluate") for done in (0, 1, 2)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    tokens = [Progress("tokens", done, 2).share for done in (0, 1, 2)]
    assert tokens == sorted(tokens)
    assert tokens[0] > Progress("train", 2, 2).share
    assert tokens[-1] == 1


def test_a_silent_job_is_marked_until_it_is_heard_again():
    board = ProgressDisplay("Cells", {"k": "tokens 32, accum 1, seed 1"}, 1)
    board.take(Event("k", "started"))
    silent = Event("k", "silent", text="nothing heard for 1 min")
    board.take(silent)
    assert board.line(silent) == "tokens 32, accum 1, seed 1: nothing heard for 1 min (starting)"
    board.take(Event("k", "progress", progress=Progress("train", 12, 600)))
    assert shown(board).count("nothing heard") == 0
    board.take(silent)
    assert board.line(silent) == "tokens 32, accum 1, seed 1: nothing heard for 1 min (step 12/600)"
    assert shown(board).count("nothing heard for 1 min") == 1
    board.take(Event("k", "done"))
    assert (board.silent, board.over) == ({}, 1)


def shown(board: ProgressDisplay) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(board.renderable())
    return console.export_text()


def test_times_for_people():
    assert [format_duration(seconds) for seconds in (41.6, 425, 7800)] == ["42 s", "7 min 05 s", "2 h 10 min"]


def test_running_means_and_failures_stand_in_the_display():
    names = {f"{tokens}-{seed}": f"tokens {tokens}, accum 1, seed {seed}" for tokens in range(15) for seed in (1, 2)}
    board = ProgressDisplay("Cells", names, 2, conditions={key: name.rpartition(", ")[0] for key, name in names.items()})
    assert "so far" not in shown(board)
    for key, accuracy in (("0-1", 0.5), ("0-2", 0.53), ("3-1", 0.75)):
        board.take(Event(key, "started"))
        board.take(Event(key, "done"))
        board.note_accuracy(key, accuracy)
    board.note_accuracy("not of the grid", 0.9)
    board.take(Event("3-2", "started"))
    board.take(Event("3-2", "failed", error="OutOfMemoryError: 80 GiB\nmore"))
    lines = [line.split() for line in shown(board).splitlines()]
    assert ["tokens", "0,", "accum", "1", "51.5", "2.1", "2/2"] in lines
    assert ["tokens", "3,", "accum", "1", "75.0", "1/2"] in lines
    assert "failed: tokens 3, accum 1, seed 2: OutOfMemoryError: 80 GiB\n" in shown(board)
    for tokens in range(1, 15):
        board.note_accuracy(f"{tokens}-1", 0.01 * tokens)
    text = shown(board)
    assert "and 3 less accurate conditions" in text
    assert "tokens 14, accum 1" in text
    assert "tokens 1, accum 1" not in text
