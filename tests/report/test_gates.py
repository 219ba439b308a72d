"""Gates: what passes, what fails, what cannot be judged, and how often those that test err by chance."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from answer_grids import AXES, condition
from finished_cells import finished_folder, rewrite
from scipy import special
from settings import SETTINGS, config

from qtablate.axes import Condition
from qtablate.errors import ConfigError
from qtablate.report.answers import Answers
from qtablate.report.batch_split_check import SplitPair
from qtablate.report.build import report
from qtablate.report.gates.better import judge_better, parse_better
from qtablate.report.gates.drop import MaxDrop, drop_p
from qtablate.report.gates.judge import Gate, judge_gates, judge_splits
from qtablate.report.gates.tables import gate_table, junit_xml
from qtablate.report.results import load
from qtablate.statistics.estimate import estimate

NOTHING = "cannot be judged: "


def judged(store, **asked) -> Gate:
    [gate] = judge_gates(load(store.root), {name.replace("_", "-"): value for name, value in asked.items()})
    assert gate.passed or gate.found
    assert bool(gate.errors) != gate.found.startswith(NOTHING)
    return gate


def found(store, **asked) -> str:
    """Why a gate fails."""
    gate = judged(store, **asked)
    assert not gate.passed
    return gate.found


def better(*texts):
    return [parse_better(text) for text in texts]


def clustered(value, stderr):
    return {"value": value, "stderr": stderr, "n": 60}


# ---- cells that are not finished, blind controls, thresholds


def test_cells_that_are_not_finished_are_counted_and_named(tmp_path):
    whole = finished_folder(tmp_path / "whole", {0: 0.5, 8: 0.6})
    assert judged(whole, max_failed=0) == Gate(
        "max-failed", "at most 0 cells not finished", "0 of 6 cells not finished", True, "no error rate: counts cells"
    )
    store = finished_folder(tmp_path / "r", {0: 0.5, 8: 0.6}, failed=[(8, 2)], unfinished=[(0, 3)])
    assert found(store, max_failed=1) == (
        "2 of 6 cells not finished (1 pending, 1 failed): extra tokens 0, accum 1, seed 3; extra tokens 8, accum 1, seed 2"
    )
    assert judged(store, max_failed=2).passed
    for file in store.root.glob("cells/*/answers.csv"):
        file.write_text(file.read_text() + "\n")  # a damaged cell is not a finished one
        break
    assert "3 of 6 cells not finished" in found(store, max_failed=2)


def test_a_cell_that_is_not_above_its_blind_control_is_named(tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.5, 8: 0.6}, seeds=(1,))
    gate = judged(store, above_blind=True)
    assert gate.passed
    assert gate.found == "all 2 finished cells; the least clear gain is +10.0 ±2.0 points"
    assert gate.errors == "a cell that sees nothing passes by chance in about 2.7 % of runs"
    rewrite(store, visual_gain=clustered(0.04, 0.02))  # two standard errors, and not above
    assert found(store, above_blind=True).startswith(
        "not above its blind control: extra tokens 0, accum 1, seed 1 (+4.0 ±2.0 points); extra tokens 8"
    )


@pytest.mark.parametrize(
    ("gain", "reason"),
    [(clustered(None, None), "no blind control (--controls blind)"), (clustered(0.1, None), "items of one clip")],
)
def test_a_gain_that_is_not_known_is_no_gain(gain, reason, tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.5}, seeds=(1,))
    rewrite(store, visual_gain=gain)
    assert found(store, above_blind=True) == f"{NOTHING}{reason}: extra tokens 0, accum 1, seed 1"


def test_nothing_is_said_of_cells_that_are_not_there(tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.5}, seeds=(1,), unfinished=[(0, 1)])
    assert found(store, above_blind=True) == f"{NOTHING}no cell has finished"
    assert found(store, min_accuracy=0.0) == f"{NOTHING}no finished cell of extra tokens 0, accum 1"
    assert found(store, better=better("tokens=8,tokens=0")) == f"{NOTHING}no finished cell has tokens=8 or tokens=0"
    assert found(store, split_equivalent=True).startswith(f"{NOTHING}no two finished cells split one batch")
    other = finished_folder(tmp_path / "other", {0: 0.5})
    assert found(store, max_drop=MaxDrop(0.01, other)).endswith("have no finished condition in common")


def test_an_accuracy_is_at_least_the_share(tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.5, 8: 0.8})
    summary = load(store.root).summary.set_index("extra_num_query_tokens")
    lowest = summary.loc[0, "accuracy"]
    gate = judged(store, min_accuracy=lowest)
    assert gate.passed
    assert gate.found == f"lowest of 2 conditions: {100 * lowest:.1f} % with extra tokens 0, accum 1"
    assert gate.errors == (
        "no error rate: compares the mean as it is; standard error over items "
        f"±{100 * summary.loc[0, 'accuracy_item_stderr']:.1f} points"
    )
    assert found(store, min_accuracy=lowest + 0.001) == f"{100 * lowest:.1f} % with extra tokens 0, accum 1"
    assert found(store, min_accuracy=1.0).count(" % with ") == 2


def test_incorrect_levels_need_no_accuracy(tmp_path):
    broken = Condition(8, 2, 8, "mixed", "normal", loss_norm="none")
    store = finished_folder(tmp_path / "r", {0: 0.9, 8: 0.1}, conditions=[Condition(0, 2, 8, "mixed", "none"), broken])
    assert judged(store, min_accuracy=0.7).passed
    store = finished_folder(tmp_path / "only", {8: 0.1}, conditions=[broken])
    assert found(store, min_accuracy=0.0) == f"{NOTHING}the sweep has no condition that keeps the rules of accumulation"


def test_tables_without_their_cells_pass_no_gate(tmp_path):
    """They say of cells that are gone that these have finished."""
    store = finished_folder(tmp_path / "r", {0: 0.9, 8: 0.9})
    report(store)
    for file in store.root.glob("cells/*/record.json"):
        file.unlink()
    asked = {"max-failed": 6, "above-blind": True, "min-accuracy": 0.0, "better": better("tokens=8,tokens=0")}
    gates = list(judge_gates(load(store.root), asked | {"split-equivalent": True}))
    assert [gate.name for gate in gates] == [*asked, "split-equivalent"]
    assert not any(gate.passed for gate in gates)
    assert {gate.found for gate in gates} == {f"{NOTHING}6 of its 6 finished cells are no longer under cells/ as they were"}


# ---- planned comparisons


def test_a_level_beats_another_by_the_contrast_of_the_report(tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.4, 8: 0.9, 16: 0.9})
    gate = judged(store, better=better("tokens=8,tokens=0"))
    row = load(store.root, baseline={"tokens": "0"}).contrasts.query("task == 'all' and outcome == 'accuracy' and level == 8")
    [difference], [p] = row["difference"], row["p"]
    assert gate.passed
    assert gate.asked == "extra tokens 8 beats 0"
    assert gate.found.startswith(f"+{100 * difference:.1f} points (95 % CI ")
    assert gate.found.endswith(f"; 3 seeds), p {p:.1e}")
    assert re.fullmatch(
        r"passes by chance in at most 2\.5 % of runs where the two are equal; "
        r"a true difference of \d+\.\d points is found in 80 % of runs",
        gate.errors,
    )
    assert found(store, better=better("tokens=0,tokens=8")).startswith(f"-{100 * difference:.1f} points")  # surely worse


def test_the_other_axes_are_averaged(tmp_path):
    conditions = [Condition(n, accum, 8, "mixed", "normal" if n else "none") for n in (0, 8) for accum in (1, 4)]
    store = finished_folder(tmp_path / "r", {0: 0.4, 8: 0.9}, conditions=conditions)
    assert "; mean of accum 1+4; 3 seeds)" in judged(store, better=better("tokens=8,tokens=0")).found


def test_several_comparisons_are_adjusted_together(tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.4, 8: 0.9, 16: 0.9})
    texts = ("tokens=8,tokens=0", "tokens=16,tokens=0", "tokens=32,tokens=0")
    first, second, third = judge_gates(load(store.root), {"better": better(*texts)})
    assert first.passed
    assert second.passed
    assert ", adjusted over 2 gates " in first.found  # one that cannot be judged has no p
    assert "any of 2 such gates together" in first.errors
    assert third.found == f"{NOTHING}no finished cell has tokens=32"


def test_comparisons_that_cannot_be_judged(tmp_path):
    pair = better("tokens=8,tokens=0")
    one = finished_folder(tmp_path / "one", {0: 0.4, 8: 0.9}, seeds=(1,))
    assert found(one, better=pair) == f"{NOTHING}one seed cannot tell what another would change; run two seeds or more"
    apart = finished_folder(tmp_path / "apart", {0: 0.4, 8: 0.9}, seeds=(1, 2), unfinished=[(0, 1), (8, 2)])
    assert found(apart, better=pair) == f"{NOTHING}no common seed"
    same = finished_folder(tmp_path / "same", {0: 0.5, 8: 0.5})
    assert found(same, better=pair) == f"{NOTHING}the two are the same run, with equal losses at every step"
    alone = [Condition(0, 1, 8, "mixed", "none"), Condition(8, 4, 8, "mixed", "normal")]
    listed = finished_folder(tmp_path / "listed", {0: 0.4, 8: 0.9}, conditions=alone)
    assert found(listed, better=pair) == f"{NOTHING}no two finished conditions differ in this alone"
    budgets = finished_folder(tmp_path / "budgets", {0: 0.4, 8: 0.9})
    for file in budgets.root.glob("cells/*"):
        record = budgets.read_record(file.name)
        more = 100 if record.cell["condition"]["extra_num_query_tokens"] else 64
        budgets.write_record(replace(record, figures=record.figures | {"samples_seen": more}))
    assert found(budgets, better=pair) == f"{NOTHING}the budgets of the two differ by more than 1 %"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens=8", "expected two levels of one axis such as tokens=32,tokens=0, got 'tokens=8'"),
        ("tokens=8,accum=1", "expected two levels of one axis"),
        ("tokens=8,tokens=0,tokens=4", "expected two levels of one axis"),
        ("tokens=8,", "expected two levels of one axis"),
        ("tokens,accum", "'tokens' is not an axis and a level"),
        ("color=8,color=0", "unknown axis 'color'; known: tokens, accum"),
        ("tokens=many,tokens=0", "--better tokens=many,tokens=0: 'many' is not a whole number$"),
        ("mixing=all,mixing=mixed", "unknown value 'all'; known: mixed, random, interleaved"),
        ("tokens=8,tokens=08", "expected two levels, got 8 twice"),
    ],
)
def test_what_is_no_comparison_is_a_mistake(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_better(text)


# ---- drops


def test_a_drop_that_is_sure_fails_and_a_smaller_one_does_not(tmp_path):
    before = finished_folder(tmp_path / "before", {0: 0.9, 8: 0.9, 16: 0.9})
    after = finished_folder(tmp_path / "after", {0: 0.5, 8: 0.9, 32: 0.9})
    text = found(after, max_drop=MaxDrop(0.01, before))
    assert re.fullmatch(
        r"drops of \d\d\.\d points with extra tokens 0, accum 1 \(p \S+\); "
        r"2 conditions compared, 1 only in before, 1 only in after",
        text,
    )
    gate = judged(before, max_drop=MaxDrop(0.01, after))
    assert gate.passed
    assert gate.found.startswith("no condition is worse; 2 conditions")
    assert re.fullmatch(
        r"fails by chance in at most 5 % of runs where no condition dropped by more than 1\.0 points; "
        r"a drop of \d+\.\d points of any one condition that is paired is caught in 80 % of runs",
        gate.errors,
    )
    gate = judged(after, max_drop=MaxDrop(0.6, before))
    assert gate.passed
    assert gate.found.startswith("largest drop ")


def test_equal_answers_are_no_drop_even_with_one_seed(tmp_path):
    one, two = (finished_folder(tmp_path / name, {0: 0.5}, seeds=(1,)) for name in ("one", "two"))
    gate = judged(two, max_drop=MaxDrop(0.0, one))
    assert gate.passed
    assert gate.found == "the same answers in both; 1 condition compared"


def test_other_items_are_compared_as_independent_means(tmp_path):
    before = finished_folder(tmp_path / "before", {0: 0.95})
    after = finished_folder(tmp_path / "after", {0: 0.3}, benchmark="another")
    gate = judged(after, max_drop=MaxDrop(0.01, before))
    assert not gate.passed
    assert gate.errors.endswith("by more than 1.0 points")  # what would be caught is known of paired means alone


def test_drops_that_cannot_be_judged(tmp_path):
    before = finished_folder(tmp_path / "before", {0: 0.9}, seeds=(1,))
    after = finished_folder(tmp_path / "after", {0: 0.5}, seeds=(1,))
    asked = {"max_drop": MaxDrop(0.01, before)}
    assert found(after, **asked) == f"{NOTHING}one seed cannot tell what another would change; run two seeds or more (" + (
        "extra tokens 0, accum 1)"
    )
    longer = finished_folder(tmp_path / "longer", {0: 0.5}, settings=replace(SETTINGS, samples=1920))
    assert found(longer, **asked).startswith(f"{NOTHING}budgets differ: 1920 samples, against 960 samples (extra tokens 0")
    fixed = finished_folder(tmp_path / "fixed", {0: 0.5}, config=config(batch_size_is="effective-batch"))
    assert found(fixed, **asked).startswith(f"{NOTHING}--batch-size is the micro-batch in ")


# ---- splits of one batch


def pair(**changes) -> SplitPair:
    levels = dict(zip(AXES, condition(4), strict=True)) | {"key": "a", "seed": 1}
    whole = {"levels": levels, "seed": 1, "split": (1, 2), "steps": 9, "early_difference": 0.0, "loss_difference": 1e-6}
    return SplitPair(**(whole | {"answers": 60, "answers_differing": 0, "near_ties": 0, "dropout": False} | changes))


def test_every_pair_of_splits_coincides():
    assert judge_splits([pair(), pair(answers_differing=1, near_ties=1)]).passed
    assert "losses within 0.0001 of each other" in judge_splits([pair()]).errors
    failing = judge_splits([pair(), pair(loss_difference=0.1, early_difference=0.1, answers_differing=3)])
    assert not failing.passed
    assert failing.found == (
        "1 of 2 pairs differ: extra tokens 4, accum 1, seed 1: accum 1 and 2, losses differ by 1.0e-01, "
        "3 answers beyond near-ties"
    )
    assert "late: unstable training" in judge_splits([pair(loss_difference=0.1)]).found
    assert judge_splits([pair(), pair(dropout=True)]).found.startswith(f"{NOTHING}1 of 2 pairs trained with dropout")
    assert judge_splits([]).found.startswith(f"{NOTHING}no two finished cells")


def test_splits_are_read_from_the_cells(tmp_path):
    conditions = [Condition(8, accum, 8 // accum, "mixed", "normal") for accum in (1, 2)]
    store = finished_folder(tmp_path / "r", {8: 0.5}, seeds=(1,), conditions=conditions)
    assert judged(store, split_equivalent=True).found.startswith("all 1 pair;")


# ---- error rates

CLIPS, PER_CLIP, SEEDS = 100, 2, 3


def correct_answers(random, accuracies, seed_sd=0.02):
    """(conditions, seeds, items): answers whose clips and items are common to the conditions, and whose seeds are not."""
    of_clips, of_items = random.standard_normal(CLIPS), random.standard_normal(CLIPS * PER_CLIP)
    own = random.standard_normal((len(accuracies), SEEDS, CLIPS * PER_CLIP))
    levels = np.asarray(accuracies)[:, None] + seed_sd * random.standard_normal((len(accuracies), SEEDS))
    difficulty = 0.5**0.5 * np.repeat(of_clips, PER_CLIP) + 0.3**0.5 * of_items + 0.2**0.5 * own
    return (difficulty < special.ndtri(levels)[:, :, None]).astype(float)


def answers_of(correct, conditions) -> Answers:
    values = {(key, seed + 1): correct[number, seed] for number, key in enumerate(conditions) for seed in range(SEEDS)}
    count = correct.shape[2]
    clips = np.repeat(np.arange(CLIPS), PER_CLIP)
    return Answers(AXES, values, clips, np.full(count, "a"), np.arange(count).astype(str))


def pass_rate(runs, accuracies, texts) -> float:
    """Share of runs in which any of these comparisons passes."""
    random = np.random.default_rng(7)
    conditions = [condition(tokens) for tokens in (0, 8, 16)[: len(accuracies)]]
    pairs = better(*texts)
    return float(
        np.mean(
            [
                any(one.passed for one in judge_better(answers_of(correct_answers(random, accuracies), conditions), pairs))
                for _ in range(runs)
            ]
        )
    )


def bound(share, runs) -> float:
    """What a share of this size stays below in 98 % of all repetitions of so many runs."""
    return share + 2 * (share * (1 - share) / runs) ** 0.5


def test_equal_levels_rarely_beat_each_other_and_different_ones_do():
    pair, two = ["tokens=8,tokens=0"], ["tokens=8,tokens=0", "tokens=16,tokens=0"]
    assert pass_rate(200, (0.5, 0.5), pair) <= bound(0.025, 200)
    assert pass_rate(100, (0.5, 0.5, 0.5), two) <= bound(0.025, 100)
    answers = answers_of(correct_answers(np.random.default_rng(5), (0.5, 0.5)), [condition(0), condition(8)])
    [said] = re.findall(r"a true difference of (\S+) points is found in 80 %", judge_better(answers, better(*pair))[0].errors)
    assert pass_rate(60, (0.5, 0.5 + float(said) / 100), pair) >= 0.7


def drop_rate(runs, before, after, share) -> float:
    """Share of runs in which some condition is called more than `share` worse."""
    random = np.random.default_rng(11)
    clips = np.repeat(np.arange(CLIPS), PER_CLIP)
    failed = 0
    for _ in range(runs):
        correct = correct_answers(random, (*before, *after))
        estimates = [estimate((correct[len(before) + n] - correct[n]).T, clips) for n in range(len(before))]
        failed += min(drop_p(estimates, share)) < 0.05
    return failed / runs


def test_drops_as_large_as_allowed_rarely_fail_and_larger_ones_do():
    assert drop_rate(300, (0.6,), (0.55,), 0.05) <= bound(0.05, 300)
    assert drop_rate(300, (0.6, 0.5, 0.5), (0.55, 0.45, 0.5), 0.05) <= bound(0.05, 300)
    assert drop_rate(100, (0.6,), (0.35,), 0.05) > 0.8


# ---- shown


def test_gates_as_a_table_and_as_xml():
    gates = [
        Gate("min-accuracy", "at least 50 %", "40 % | <b> & \x1b[0m", False, "no error rate"),
        Gate("max-failed", "at most 0 cells", "0 of 2 cells", True, "no error rate"),
    ]
    table = gate_table(gates, "results/r")
    assert [row[-1] for row in table.rows] == ["FAILED", "passed"]
    assert "| 40 % \\| <b> & " in table.markdown()
    assert table.note == "Errors by chance:\n\n- min-accuracy: no error rate.\n- max-failed: no error rate."
    suites = ElementTree.fromstring(junit_xml(gates, [0.25, 0.5], "results/r"))
    assert suites.attrib == {"tests": "2", "failures": "1", "errors": "0", "skipped": "0", "time": "0.750"}
    [suite] = suites
    first, second = suite
    assert first.attrib == {"classname": "results/r", "name": "min-accuracy: at least 50 %", "time": "0.250"}
    assert first.find("failure").attrib == {"message": "40 % | <b> & \N{REPLACEMENT CHARACTER}[0m"}
    assert "no error rate" in first.find("failure").text
    assert second.find("failure") is None
    assert second.find("system-out").text == "0 of 2 cells\nno error rate"
