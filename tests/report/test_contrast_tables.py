"""The tables of contrasts and their sentences."""

from answer_grids import GRID, answers_of, condition, contrasts_of

from qtablate.report import tables
from qtablate.report.families import ALL


def test_every_verdict_has_a_sentence():
    _, rows = contrasts_of(
        answers_of({condition(0): 0.0, condition(32): 0.15, condition(64): -0.15, condition(96): 0.0}, items=1000)
    )
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "undecided"
    better, worse, undecided = tables.contrast_sentences(rows)
    assert better.startswith("extra tokens 32 - 0: better, +")
    assert worse.startswith("extra tokens 64 - 0: worse, -")
    assert undecided.startswith("extra tokens 96 - 0: undecided, ")
    assert undecided.endswith("points would have been detectable.")
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "equivalent"
    assert "equivalent within 2.0 points" in tables.contrast_sentences(rows)[2]
    assert tables.contrast_table(rows).note.endswith(" ".join(tables.contrast_sentences(rows)))


def test_sentences_are_those_of_main_effects_and_interactions():
    _, rows = contrasts_of(answers_of(GRID, items=1000))
    said = tables.contrast_sentences(rows)
    assert len(said) == 2 + 1 + 2  # tokens and accumulation averaged, and the interactions
    assert "mean of accum 1+4" in said[0]


def test_tables_name_what_is_compared():
    _, rows = contrasts_of(answers_of(GRID))
    table = tables.contrast_table(rows)
    names = [row[:2] for row in table.rows]
    assert names[0] == ("extra tokens 32 - 0", "accum 1")
    assert ("accum 4 - 1", "mean of extra tokens 0+32+64") in names
    assert names[-1] == ("(extra tokens 64 - 0) at accum 4 - at 1", "")
    tasks = tables.task_contrast_table(rows)
    assert tasks.columns == ("task", "n", "32 - 0", "64 - 0")
    assert [row[:2] for row in tasks.rows] == [("a", "100"), ("b", "100")]
