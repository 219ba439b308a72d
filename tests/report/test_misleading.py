"""What a report may not say: folders with one of everything, with nothing decided, with too little to tell anything."""

import math
import re

import numpy as np
import pytest
from rich.console import Console
from scored_folder import drawn, folder

from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.records import LeftOut
from qtablate.report.build import report
from qtablate.report.compare import compare
from qtablate.report.tables import comparison_table


def shown(table, width):
    console = Console(width=width, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table.rich(width))
        return console.export_text()


def tables_of(store):
    return {table.title: table for table in report(store, figures=False).tables}


DEGENERATE = {
    "one clip": {"items": 3, "clips": 1},
    "one item": {"items": 1, "clips": 1},
    "two clips, one seed": {"items": 2, "clips": 2, "seeds": (1,)},
    "three clips": {"items": 3, "clips": 3},
    "one seed": {"seeds": (1,)},
    "no controls": {"blind": None},
    "one step": {"steps": 1, "noise": ((1.0, 10.0),)},
    "two steps of noise": {"steps": 4, "noise": ((1e-6, 10.0), (1.0, 1e-6))},
    "everything failed": {"failed": tuple(((t, a), s) for t in (0, 4) for a in (1, 2) for s in (1, 2))},
    "no seed in common": {"failed": (((0, 1), 1), ((4, 1), 2), ((0, 2), 1), ((4, 2), 2))},
    "one of two seeds failed": {"failed": (((4, 2), 1),)},
    "all correct": {"right": drawn(1.0), "blind": drawn(1.0)},
    "all wrong": {"right": drawn(0.0), "blind": drawn(0.0)},
    "below chance": {"right": drawn(0.1), "items": 400, "clips": 200},
    "one condition": {"grid": ((4, 1),)},
    "no extra tokens": {"grid": ((0, 1), (0, 2))},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_no_uninformative_number_and_no_missing_figure_in_a_sentence(case, tmp_path):
    """At any width and in Markdown: no nan, no uncertainty beyond what there can be, no sentence whose figure is missing, and
    `best` for nothing that is not above chance."""
    given = dict(DEGENERATE[case])
    right, grid = given.pop("right", drawn(0.6)), given.pop("grid", tuple((t, a) for t in (0, 4) for a in (1, 2)))
    made = report(folder(tmp_path / "r", dict.fromkeys(grid, right), **given), figures=False)
    texts = [shown(table, width) for table in made.tables for width in (80, 140)]
    texts += [*made.headline.lines, (tmp_path / "r" / "report.md").read_text()]
    for text in texts:
        assert not re.search(r"\b(nan|inf|None|NaT)\b", text)
        assert not re.search(r"[-+±]\d{4,}|[-+±]\d{1,3}(,\d{3})+|-0\.0\b", text)
        assert "Recommended" not in text
        assert not re.search(r"\b(undecide|highes|equivalen|too fe)\b", text)
    for note in (*(table.notes() for table in made.tables), *made.headline.lines):
        assert not re.search(r"\(\)|\(,|\( |, ,| {2}|: \.|like \.|[;,] ?(points|[.;,])|\.\.", note), note
    for line in texts[-1].splitlines():
        for plus_minus in re.findall(r"±([\d.]+)", line):
            assert float(plus_minus) <= 100


def test_decided_condition_above_chance_is_recommended(tmp_path):
    store = folder(tmp_path / "r", {(0, 1): drawn(0.4), (4, 1): drawn(0.9)}, seeds=(1, 2, 3), items=400, clips=400)
    made = report(store, figures=False)
    assert made.headline.answer.startswith("Recommended: extra tokens 4: 4 beats 0 by ")
    assert re.search(r"\(95 % CI [\d.]+ to [\d.]+\)\.$", made.headline.answer)
    assert "Highest accuracy: " in made.headline.details[0]
    assert ", selected from 2. An accuracy that was selected is too high on average" in made.headline.details[0]
    assert "best" in {row[-1] for row in {table.title: table for table in made.tables}["Cost"].rows}
    assert made.headline.answer in (tmp_path / "r" / "report.md").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"right": drawn(0.1)},
            "No recommendation: no condition is above chance (25.0 %) and its blind control by 2 standard errors.",
        ),
        (
            {"right": drawn(0.1), "blind": None},
            "No recommendation: no condition is above chance (25.0 %) by 2 standard errors.",
        ),
        (
            {"right": drawn(0.9), "blind": drawn(0.9)},
            "No recommendation: no condition is above chance (25.0 %) and its blind control",
        ),
        ({"clips": 3}, "No recommendation: the items are of 3 clips, fewer than 10."),
        ({"other": drawn(0.6)}, "No recommendation on extra tokens: differences below "),
        ({"failed": (((0, 1), 1), ((0, 1), 2))}, "No recommendation: there is one condition, and nothing to compare it with."),
    ],
)
def test_nothing_is_recommended_and_no_condition_is_called_best_without_support(given, said, tmp_path):
    given = dict(given)
    right = given.pop("right", drawn(0.65))
    store = folder(tmp_path / "r", {(0, 1): given.pop("other", right), (4, 1): right}, **given)
    made = report(store, figures=False)
    assert made.headline.answer.startswith(said)
    assert "Recommended" not in " ".join(made.headline.lines)
    assert "best" not in {row[-1] for row in {table.title: table for table in made.tables}["Cost"].rows}


def test_too_few_replaces_an_uncertainty_in_tables_and_not_in_csv(tmp_path):
    """`±176654.7` of three items in three clips."""
    random = {
        tokens: lambda seed, items, t=tokens: np.random.default_rng(10 * t + seed).uniform(size=items) < 0.5
        for tokens in (0, 4)
    }
    store = folder(tmp_path / "r", {(tokens, 1): random[tokens] for tokens in (0, 4)}, items=6, clips=6, tasks=("a", "b", "c"))
    found = tables_of(store)
    tasks = found["Contrasts per task"]
    assert all(row[-1].endswith("(too few)") for row in tasks.rows)
    assert "too few: too few clips or seeds for an interval narrower than ±100.0 points" in tasks.notes()
    conditions = found["Conditions"]
    for name in ("accuracy %", "visual gain"):
        assert all(row[conditions.columns.index(name)].endswith("(too few)") for row in conditions.rows)
    assert "(too few: fewer than 10 clips)" in found["Conditions"].notes()
    text = (tmp_path / "r" / "contrasts.csv").read_text()
    assert "too few" not in text
    assert len(text.splitlines()) == 1 + 4 + 2  # three tasks and all items, and two likelihood outcomes of all items


def test_noise_scale_with_a_wide_interval_is_too_few(tmp_path):
    store = folder(tmp_path / "r", {(0, 2): drawn(0.6)}, seeds=(1,), steps=4, noise=((1.0, 1e-3), (1e-3, 1.0)))
    table = tables_of(store)["Training"]
    assert "too few" in table.rows[0]
    assert "too few steps: fewer than 15 windows" in table.notes()


def test_a_noise_scale_without_an_upper_end_is_said_to_be_over_the_lower_one(tmp_path):
    signals = 0.5 + 4 * np.random.default_rng(1).standard_normal(80)
    store = folder(tmp_path / "r", {(0, 2): drawn(0.6)}, steps=80, noise=[(signal, 100.0) for signal in signals])
    table = tables_of(store)["Training"]
    text = table.rows[0][table.columns.index("gradient noise scale")]
    assert re.fullmatch(r"over \d+", text)
    assert "the interval has a lower end only" in table.notes()


def test_noise_scale_note_speaks_of_steps_and_calls_no_batch_too_small(tmp_path):
    """Batch 32 once was "below the critical batch" where batch 8 scored more on as many samples."""
    store = folder(tmp_path / "r", {(0, 2): drawn(0.6)}, steps=40, noise=((1.0, 120.0), (1.1, 120.0)))
    table = tables_of(store)["Training"]
    assert "gradient noise scale" in table.columns
    assert "It speaks of optimizer steps, and it ignores AdamW and the learning rate" in table.notes()
    assert "does not say which batch is best for a fixed number of samples" in table.notes()
    for text in (table.notes(), (tmp_path / "r" / "training.csv").read_text()):
        assert not re.search(r"critical|\b(below|above|near)\b", text)


def test_a_folder_compared_with_itself_is_the_same_results_without_verdict(tmp_path):
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5), (4, 1): drawn(0.6)}, items=6, clips=6)
    table = comparison_table(compare(store, store, 0.02))
    assert table.title.endswith("beside itself: the same results")
    assert {row[table.columns.index("verdict")] for row in table.rows} == {"identical"}
    assert {row[table.columns.index("p")] for row in table.rows} == {""}
    copy = folder(tmp_path / "copy", {(0, 1): drawn(0.5), (4, 1): drawn(0.6)}, items=6, clips=6)
    table = comparison_table(compare(store, copy, 0.02))
    assert table.title == "r and copy: the same results"
    assert "no setting and no answer differs" in table.notes()


def test_conditions_with_identical_answers_are_identical(tmp_path):
    one = folder(tmp_path / "one", {(0, 1): drawn(0.5), (4, 1): drawn(0.4)}, items=6, clips=6)
    two = folder(tmp_path / "two", {(0, 1): drawn(0.5), (4, 1): drawn(0.9)}, items=6, clips=6)
    table = comparison_table(compare(one, two, 0.02))
    assert table.title == "one (first) and two (second): second minus first"
    assert [row[table.columns.index("verdict")] for row in table.rows] == ["identical", "undecided"]
    assert "Identical: the same items are correct at every seed; other items may still show a difference" in table.notes()
    assert "better means that the second is better" in table.notes()


def test_note_names_means_over_different_seeds(tmp_path):
    conditions = {(0, 1): drawn(0.5), (4, 1): drawn(0.6)}
    note = "The means are over different seeds (2, 1, row by row)"
    assert note in tables_of(folder(tmp_path / "part", conditions, failed=(((4, 1), 1),)))["Conditions"].notes()
    assert "over different seeds" not in tables_of(folder(tmp_path / "whole", conditions))["Conditions"].notes()


def test_folders_of_one_name_are_shown_by_path(tmp_path):
    one, two = (folder(tmp_path / side / "r", {(0, 1): drawn(share)}) for side, share in (("a", 0.4), ("b", 0.6)))
    title = comparison_table(compare(one, two, 0.02)).title
    assert title.index(str(tmp_path / "a")) < title.index(str(tmp_path / "b"))


def test_note_names_points_of_common_seeds(tmp_path):
    one = folder(tmp_path / "one", {(0, 1): drawn(0.5)}, seeds=(1, 2, 3))
    two = folder(tmp_path / "two", {(0, 1): drawn(0.6)}, seeds=(2, 3, 4))
    assert "Points are those of the seeds in common" in comparison_table(compare(one, two, 0.02)).notes()
    apart = folder(tmp_path / "apart", {(0, 1): drawn(0.6)}, seeds=(7, 8))
    found = compare(one, apart, 0.02)
    assert set(found.frame["paired"]) == {False}
    assert "Paired by item and seed where a seed is common, else two independent means" in comparison_table(found).notes()


def test_note_names_one_seed_of_two_folders(tmp_path):
    one, two = (folder(tmp_path / name, {(0, 1): drawn(share)}, seeds=(1,)) for name, share in (("one", 0.4), ("two", 0.6)))
    assert "ONE SEED: the intervals hold the uncertainty of the items only" in comparison_table(compare(one, two, 0.02)).notes()


def test_needed_items_are_shown_as_the_option_counts_them(tmp_path):
    """--items-per-task counts those of one task; the sum alone, of 20 tasks, is none of its values."""
    tasks = tuple(f"t{n:02d}" for n in range(20))
    draws = {n: np.random.default_rng(n).uniform(size=400) for n in (0, 8)}
    conditions = {
        (tokens, 1): lambda seed, _, t=tokens: np.where(np.arange(400) % 2, draws[0], draws[2 * t]) < 0.6 - 0.001 * t * seed
        for tokens in (0, 4)
    }
    found = report(folder(tmp_path / "r", conditions, seeds=(1, 2, 3), items=400, clips=400, tasks=tasks), figures=False)
    [table] = [table for table in found.tables if table.title == "Contrasts"]
    decide = table.rows[0][-1]
    items, option = map(int, re.search(r"items (\d+) \(--items-per-task (\d+)\)", decide).groups())
    assert option == math.ceil(items / 20)
    assert "items: in all, and as --items-per-task" in table.notes()


@pytest.mark.parametrize("extra", [(), ("mine",)])
@pytest.mark.parametrize("count", [1, 19, 20])
def test_published_averages_need_all_20_tasks_and_no_other(count, extra, tmp_path):
    tasks = (*list(MEDIA_ROOTS)[:count], *extra)
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5)}, items=80, clips=80, tasks=tasks, bench="mvbench:x")
    titles = [title for title in tables_of(store) if title.startswith("Published")]
    wanted = ["Published on MVBench: not comparable with 80 of 4,000 items"] if count == 20 and not extra else []
    assert titles == wanted


def test_published_averages_are_comparable_with_all_items(tmp_path):
    store = folder(
        tmp_path / "r", {(0, 1): drawn(0.5)}, seeds=(1,), items=4000, clips=4000, tasks=tuple(MEDIA_ROOTS), bench="mvbench:x"
    )
    assert "not comparable" not in tables_of(store)["Published on MVBench"].notes()


def test_samples_and_items_left_out_are_counted_apart(tmp_path):
    problems = [LeftOut(of, f"a-{n}", "missing video", "x") for n, of in enumerate(["item", "sample", "sample"])]
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5)}, problems=problems)
    note = tables_of(store)["Left out"].notes()
    assert "Left out: 1 of the items, from every score above and 2 of the samples, from training" in note
