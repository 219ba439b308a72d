"""Gates on a results folder, for continuous integration: each passes or fails, and says how often it errs by chance.

A gate that cannot be judged fails with the reason. A new gate is one function and its entry in GATES, and an option of
`qtablate check` (cli/check.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qtablate.errors import QtablateError
from qtablate.records import NOT_NEEDED
from qtablate.report.batch_split_check import NEAR_TIE, SplitPair
from qtablate.report.compare import compare
from qtablate.report.gates.better import Better, judge_better
from qtablate.report.gates.drop import MaxDrop, judge_drop, size
from qtablate.report.gates.judgement import Judgement, listed, names_of, not_judged
from qtablate.report.identical_runs import LOSS_TOLERANCE
from qtablate.report.recommendation import ERRORS
from qtablate.report.results import Results
from qtablate.report.rows import records_of
from qtablate.report.tables.cells import plural
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.distributions import t_tail
from qtablate.table import percent, points

ROUNDING = 1e-9
"""Share by which a mean may be below a threshold that it equals but for rounding."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that was judged."""

    name: str
    asked: str
    """What the results must be like."""
    found: str
    """What they are like; of a gate that cannot be judged, why."""
    passed: bool
    errors: str
    """How often the gate errs by chance, as far as that is known; empty where it cannot be judged."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of gate."""

    asks: Callable[[Any], Sequence[str]]
    """What is asked for, in words: one text for each gate of the kind."""
    judge: Callable[[Results, Any], Sequence[Judgement]]
    """Judge each of them."""


def judge_gates(results: Results, asked: Mapping[str, Any]) -> Iterator[Gate]:
    """Yield each gate when it is judged, in the order of GATES.

    Args:
        results: a results folder at the default baseline and margin.
        asked: what each kind of gate asks for, by its name in GATES; kinds that are left out are not judged.
    """
    for name, kind in GATES.items():
        if name not in asked:
            continue
        texts = kind.asks(asked[name])
        if results.tables_only:  # tables may be of cells that have failed or run again since
            judged: Sequence[Judgement] = [not_judged(results.tables_only)] * len(texts)
        else:
            judged = kind.judge(results, asked[name])
        for text, one in zip(texts, judged, strict=True):
            yield Gate(name, text, one.found, one.passed, one.errors)


def _max_failed(results: Results, most: int) -> Sequence[Judgement]:
    cells = results.all_cells
    if cells.empty:
        return [not_judged("the sweep has no cell")]
    left = cells[~cells["status"].isin(("ok", NOT_NEEDED))]
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(left["status"]).items())
    found = f"{len(left)} of {plural(len(cells), 'cell')} not finished"
    if statuses:
        found += f" ({statuses}): {listed(names_of(cells, left))}"
    return [Judgement(found, len(left) <= most, "no error rate: counts cells")]


def _above_blind(results: Results, _: bool) -> Sequence[Judgement]:
    cells = results.cells
    done = cells[cells["status"] == "ok"]
    if done.empty:
        return [not_judged("no cell has finished")]
    for missing, why in (("visual_gain", "no blind control (--controls blind)"), ("visual_gain_stderr", "items of one clip")):
        if done[missing].isna().any():
            return [not_judged(f"{why}: {listed(names_of(cells, done[done[missing].isna()]))}")]
    clips = int(results.summary["n_clusters"].min())
    if clips < MIN_CLIPS:
        return [not_judged(f"the items are of {plural(clips, 'clip')}, fewer than {MIN_CLIPS}: too few for a standard error")]
    gains = [(float(gain), float(error)) for gain, error in zip(done["visual_gain"], done["visual_gain_stderr"], strict=True)]
    shown = [f"{points(gain)} ±{points(error, sign=False)} points" for gain, error in gains]
    below = [
        f"{name} ({text})"
        for name, text, (gain, error) in zip(names_of(cells, done), shown, gains, strict=True)
        if not gain > ERRORS * error
    ]
    by_chance = percent(t_tail(ERRORS, clips - 1))
    rate = f"a cell that sees nothing passes by chance in about {by_chance} % of runs"
    if below:
        return [Judgement(f"not above its blind control: {listed(below)}", False, rate)]
    least = min(zip(gains, shown, strict=True), key=lambda each: each[0][0] - ERRORS * each[0][1])
    return [Judgement(f"all {plural(len(gains), 'finished cell')}; the least clear gain is {least[1]}", True, rate)]


def _min_accuracy(results: Results, share: float) -> Sequence[Judgement]:
    summary = results.summary
    rows = summary[summary["incorrect"] == ""]
    if rows.empty:
        return [not_judged("the sweep has no condition that keeps the rules of accumulation")]
    missing = rows[rows["accuracy"].isna()]
    if len(missing):
        return [not_judged(f"no finished cell of {listed(names_of(summary, missing))}")]
    rows = rows.sort_values("accuracy", kind="stable")
    names, records = names_of(summary, rows), records_of(rows)
    lowest = records[0]
    known = lowest["n_clusters"] >= MIN_CLIPS
    stderr = f"±{size(lowest['accuracy_item_stderr'])}" if known else f"unknown, with fewer than {MIN_CLIPS} clips"
    rate = f"no error rate: compares the mean as it is; standard error over items {stderr}"
    described = [f"{percent(row['accuracy'])} % with {name}" for name, row in zip(names, records, strict=True)]
    below = [text for text, row in zip(described, records, strict=True) if row["accuracy"] < share - ROUNDING]
    if below:
        return [Judgement(listed(below), False, rate)]
    return [Judgement(f"lowest of {plural(len(rows), 'condition')}: {described[0]}", True, rate)]


def _better(results: Results, pairs: Sequence[Better]) -> Sequence[Judgement]:
    return judge_better(results.answer_arrays, pairs)


def _max_drop(results: Results, asked: MaxDrop) -> Sequence[Judgement]:
    try:
        return [judge_drop(compare(asked.against, results.store, asked.share), asked.share)]
    except QtablateError as error:
        return [not_judged(str(error))]


def _split_equivalent(results: Results, _: bool) -> Sequence[Judgement]:
    return [judge_splits(results.split_pairs)]


def judge_splits(pairs: Sequence[SplitPair]) -> Judgement:
    """Judge whether all cells that only split one effective batch in different ways coincide."""
    if not pairs:
        return not_judged("no two finished cells split one batch in different ways (--batch-size-is effective-batch)")
    masked = sum(pair.dropout for pair in pairs)
    if masked:
        return not_judged(f"{masked} of {plural(len(pairs), 'pair')} trained with dropout, whose masks depend on the split")
    apart = [pair for pair in pairs if not pair.passed]
    rate = (
        f"no error rate: losses within {LOSS_TOLERANCE:g} of each other, relative, at every step; answers differ only where "
        f"the two best options are within {NEAR_TIE:g} nats"
    )
    worst = max(pair.loss_difference for pair in pairs)
    if not apart:
        return Judgement(f"all {plural(len(pairs), 'pair')}; largest difference of losses {worst:.1e}", True, rate)
    frame = pd.DataFrame([pair.levels for pair in pairs])
    named = [
        f"{name}: accum {pair.split[0]} and {pair.split[1]}, losses differ by {pair.loss_difference:.1e}"
        + (" (late: unstable training)" if pair.drifted else "")
        + f", {plural(pair.answers_differing - pair.near_ties, 'answer')} beyond near-ties"
        for pair, name in zip(apart, names_of(frame, pd.DataFrame([pair.levels for pair in apart])), strict=True)
    ]
    return Judgement(f"{len(apart)} of {plural(len(pairs), 'pair')} differ: {listed(named)}", False, rate)


GATES: dict[str, Kind] = {
    "max-failed": Kind(lambda most: [f"at most {plural(most, 'cell')} not finished"], _max_failed),
    "above-blind": Kind(lambda _: [f"every finished cell above its blind control by {ERRORS} standard errors"], _above_blind),
    "min-accuracy": Kind(lambda share: [f"mean accuracy of every condition at least {percent(share)} %"], _min_accuracy),
    "better": Kind(lambda pairs: [str(pair) for pair in pairs], _better),
    "max-drop": Kind(
        lambda asked: [f"no condition surely more than {size(asked.share)} worse than in {asked.against.root}"], _max_drop
    ),
    "split-equivalent": Kind(lambda _: ["cells that split one batch in different ways coincide"], _split_equivalent),
}
"""Every kind of gate by its name, which is that of its option. A new gate is one entry here."""
