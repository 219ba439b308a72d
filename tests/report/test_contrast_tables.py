"""The tables of contrasts and their sentences."""

import re

from answer_grids import GRID, answers_of, condition, contrasts_of

from qtablate.report import tables
from qtablate.report.families import ALL


def test_every_verdict_has_a_sentence():
    _, rows = contrasts_of(
        answers_of({condition(0): 0.0, condition(32): 0.15, condition(64): -0.15, condition(96): 0.0}, items=1000)
    )
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "undecided"
    better, worse, undecided = tables.contrast_sentences(rows)
    assert re.fullmatch(r"extra tokens: 32 beats 0 by [\d.]+ points \(95 % CI [\d.]+ to [\d.]+\)\.", better)
    assert re.fullmatch(r"extra tokens: 0 beats 64 by [\d.]+ points \(95 % CI [\d.]+ to [\d.]+\)\.", worse)
    assert undecided.startswith("extra tokens: 96 against 0 undecided, ")
    assert re.search(r"; smallest reliably detectable difference [\d.]+ points\.$", undecided)
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "equivalent"
    assert "96 and 0 are equivalent within 2.0 points (difference " in tables.contrast_sentences(rows)[2]
    assert tables.contrast_table(rows).notes().endswith(" ".join(tables.contrast_sentences(rows)))
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "identical"
    assert tables.contrast_sentences(rows)[2] == "extra tokens: 96 and 0 are the same run, with equal losses at every step."


def test_sentences_are_those_of_main_effects_and_interactions():
    _, rows = contrasts_of(answers_of(GRID, items=1000))
    said = tables.contrast_sentences(rows)
    assert len(said) == 2 + 1 + 2  # tokens and accumulation averaged, and the interactions
    assert "mean of accum 1+4" in said[0]
    assert said[-1].startswith("interaction of extra tokens 64 - 0 with accum 4 - 1: ")


def test_tables_name_what_is_compared():
    _, rows = contrasts_of(answers_of(GRID))
    primary = [row[:2] for row in tables.contrast_table(rows).rows]
    assert primary == [
        ("extra tokens 32 - 0", "mean of accum 1+4"),
        ("extra tokens 64 - 0", "mean of accum 1+4"),
        ("accum 4 - 1", "mean of extra tokens 0+32+64"),
    ]
    secondary = [row[:2] for row in tables.secondary_contrast_table(rows).rows]
    assert secondary[0] == ("extra tokens 32 - 0", "accum 1")
    assert secondary[-1] == ("(extra tokens 64 - 0) at accum 4 - at 1", "")
    assert tables.secondary_contrast_table(contrasts_of(answers_of({condition(0): 0.0, condition(32): 0.0}))[1]) is None
    tasks = tables.task_contrast_table(rows)
    assert tasks.columns == ("task", "n", "32 - 0", "64 - 0")
    assert [row[:2] for row in tasks.rows] == [("a", "100"), ("b", "100")]
