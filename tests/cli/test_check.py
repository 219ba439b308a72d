"""`qtablate check`: exit codes, what is printed, and what is written for CI."""

import io
from xml.etree import ElementTree

import pytest
from finished_cells import finished_folder, rewrite
from launch import here
from rich.console import Console

from qtablate.cli.check import SUMMARY
from qtablate.report.gates.judge import GATES, Gate
from qtablate.report.gates.tables import gate_table
from qtablate.store import Store


@pytest.fixture(autouse=True)
def _no_summary(monkeypatch):
    """Nothing of the CI that runs these tests."""
    monkeypatch.delenv(SUMMARY, raising=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Store:
    return finished_folder(tmp_path_factory.mktemp("results") / "r", {0: 0.5, 8: 0.9})


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Store:
    return finished_folder(tmp_path_factory.mktemp("results") / "before", {0: 0.5, 8: 0.9})


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_all_gates_that_pass_end_with_0(results, before):
    words = ["--max-failed", 0, "--above-blind", "--min-accuracy", 0.2, "--better", "tokens=8,tokens=0"]
    out = here("check", results.root, *words, "--max-drop", 1, "--against", before.root)
    assert [line.split()[0] for line in out.splitlines() if "passed" in line.split()] == [
        "max-failed",
        "above-blind",
        "min-accuracy",
        "better",
        "max-drop",
    ]
    assert out.splitlines()[-1] == "All 5 gates passed."
    assert "FAILED" not in out
    assert "- better: passes by chance in at most 2.5 % of runs" in one_line(out)


def test_a_gate_that_fails_ends_with_1_and_others_are_judged_all_the_same(results):
    out = here("check", results.root, "--min-accuracy", 0.9, "--max-failed", 0, "--split-equivalent", code=1)
    assert [line.split()[-1] for line in out.splitlines() if {"passed", "FAILED"} & set(line.split())] == [
        "passed",
        "FAILED",
        "FAILED",
    ]
    assert "cannot be judged: no two finished cells split one batch" in one_line(out)
    assert out.splitlines()[-1] == "2 of 3 gates failed."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a gate, got none; give one or more of " + ", ".join(f"--{name}" for name in GATES)),
        (["--max-drop", 1], "--max-drop needs --against DIR"),
        (["--against", "somewhere"], "--against needs --max-drop POINTS"),
        (["--max-drop", 1, "--against", "RESULTS"], "--against: expected another results folder, got "),
        (["--max-drop", 1, "--against", "nowhere"], "nowhere holds no sweep.json"),
        (["--better", "tokens=8"], "--better: expected two levels of one axis"),
        (["--better", "tokens=8,tokens=0", "--better", "tokens=8,tokens=0"], "--better: expected different comparisons"),
        (["--max-failed", -1], "--max-failed: "),
        (["--min-accuracy", 50], "--min-accuracy: expected a number from 0 to 1, got 50"),
        (["--above-blind", "--junit", "RESULTS"], "cannot be written (Is a directory): name a file in a folder of yours"),
        (["--above-blind", "--junit", "/dev/null/j.xml"], "--junit: /dev/null/j.xml cannot be written"),
    ],
)
def test_mistakes_end_with_2_and_one_message(words, message, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(results.root) if word == "RESULTS" else word for word in words]
    out = here("check", results.root, *words, code=2)
    assert message in out
    assert sum(line.startswith("error: ") for line in out.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_sweeps_is_a_mistake(tmp_path):
    assert "holds no sweep.json" in here("check", tmp_path, "--above-blind", code=2)
    assert "Missing argument" in here("check", "--above-blind", code=2)


def test_junit_is_written_whole_and_parses(results, tmp_path):
    file = tmp_path / "reports" / "junit.xml"
    here("check", results.root, "--max-failed", 0, "--min-accuracy", 0.9, "--junit", file, code=1)
    suites = ElementTree.parse(file).getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("2", "1")
    first, second = suites.iter("testcase")
    assert first.get("name") == "max-failed: at most 0 cells not finished"
    assert first.find("failure") is None
    assert second.find("failure").get("message").endswith(" % with extra tokens 0, accum 1")
    assert all(float(case.get("time")) >= 0 for case in (first, second))
    assert [path.name for path in file.parent.iterdir()] == ["junit.xml"]


def test_the_summary_of_a_step_gets_the_table(results, tmp_path, monkeypatch):
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv(SUMMARY, str(file))
    here("check", results.root, "--max-failed", 0)
    assert file.read_text().splitlines()[:6] == [
        "before",
        f"## Gates of {results.root}",
        "",
        "| gate | asked | found | outcome |",
        "| --- | --- | --- | --- |",
        "| max-failed | at most 0 cells not finished | 0 of 6 cells not finished | passed |",
    ]
    monkeypatch.setenv(SUMMARY, str(tmp_path))
    out = here("check", results.root, "--max-failed", 0)
    [warning] = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {SUMMARY}: {tmp_path} cannot be written (Is a directory)")


def test_outcomes_are_words_that_color_only_underlines():
    table = gate_table([Gate("a", "b", "c", True, ""), Gate("d", "e", "f", False, "")], "r")
    shown = {}
    for color in (None, "standard"):
        screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=color)
        screen.print(table.rich(80))
        shown[color] = screen.file.getvalue()
    assert "passed" in shown[None]
    assert "FAILED" in shown[None]
    assert "\x1b[32mpassed" in shown["standard"]
    assert "\x1b[1;31mFAILED" in shown["standard"]


def test_the_smoke_ablation_is_judged_by_these_gates(tmp_path):
    import typer

    from qtablate.cli.sweep import _check_smoke

    def smoke(store: Store) -> tuple[str, int]:
        screen, code = Console(file=io.StringIO(), width=400), 0
        try:
            _check_smoke(screen, store)
        except typer.Exit as stop:
            code = stop.exit_code
        return screen.file.getvalue(), code

    store = finished_folder(tmp_path / "r", {0: 0.5, 8: 0.9}, seeds=(1,))
    said = "Smoke ablation passed: every cell finished and scores above its blind control by two standard errors.\n"
    assert smoke(store) == (said, 0)
    rewrite(store, visual_gain={"value": 0.01, "stderr": 0.02, "n": 60})
    said, code = smoke(store)
    assert code == 1
    assert "not above its blind control: extra tokens 0, accum 1, seed 1 (+1.0 ±2.0 points)" in one_line(said)
    unfinished = finished_folder(tmp_path / "u", {0: 0.5, 8: 0.9}, seeds=(1,), unfinished=[(8, 1)])
    said, code = smoke(unfinished)
    assert code == 1
    assert "1 of 2 cells not finished (1 pending)" in said
