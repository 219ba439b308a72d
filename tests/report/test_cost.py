"""Which conditions are on the Pareto front, and which are equivalent to the best."""

from dataclasses import asdict, astuple, replace

import numpy as np
import pandas as pd

from qtablate.axes import Condition
from qtablate.report.answers import Answers, axes_of
from qtablate.report.cost import cost_frame, pareto
from qtablate.report.decoders import DECODERS


def test_pareto_front():
    assert pareto([1, 2, 3, 3], [0.5, 0.4, 0.6, 0.7]) == [True, False, False, True]
    assert pareto([1, 1], [0.5, 0.5]) == [True, True]
    assert pareto([], []) == []


def condition(tokens):
    return Condition(tokens, 1, 8, "mixed", "normal" if tokens else "none")


def summary(accuracies):
    rows = [
        {
            **asdict(condition(tokens)),
            "incorrect": "",
            "seeds_done": 2,
            "visual_tokens": 2 + tokens,
            "steps": 100,
            "train_seconds": 10.0 + tokens,
            "eval_seconds": 4.0,
            "n_items": 400,
            "peak_memory_mb": 500.0,
            "accuracy": accuracy,
            "accuracy_item_stderr": 0.01,
            "chance": 0.25,
            "visual_gain": accuracy - 0.25,
            "visual_gain_item_stderr": 0.01,
            "n_clusters": 400,
        }
        for tokens, accuracy in accuracies.items()
    ]
    return pd.DataFrame(rows)


def answers_of(effects, items=4000):
    random = np.random.default_rng(1)
    draws = random.uniform(size=(2, items))
    right = {
        (astuple(condition(tokens)), seed): (draws[seed] < 0.5 + effect).astype(float)
        for tokens, effect in effects.items()
        for seed in (0, 1)
    }
    return Answers(axes_of("micro-batch"), right, np.arange(items), np.array(["a"] * items), np.arange(items).astype(str))


def test_a_cheaper_condition_within_the_margin_is_equivalent():
    conditions = summary({0: 0.5, 8: 0.695, 64: 0.7})
    table = cost_frame(conditions, answers_of({0: 0.0, 8: 0.195, 64: 0.2}), DECODERS["7b"], 0.02)
    assert list(table["equivalent_to_best"]) == ["", "equivalent", "best"]
    assert list(table["pareto_by_tokens"]) == [True, True, True]
    assert list(table["prefill_gflops_added"] > 0) == [True] * 3
    assert table["step_seconds"].tolist() == [0.1, 0.18, 0.74]
    assert table["item_milliseconds"].tolist() == [10.0] * 3


def test_incorrect_condition_is_neither_best_nor_on_a_pareto_front():
    wrong = Condition(64, 4, 8, "mixed", "normal", loss_norm="micro_mean")
    table = summary({0: 0.5, 64: 0.6})
    third = table.tail(1).assign(**asdict(wrong), incorrect="loss_norm=micro_mean", accuracy=0.9)
    table = pd.concat([table, third], ignore_index=True)
    answers = answers_of({0: 0.0, 64: 0.1})
    answers = replace(answers, correct={**answers.correct, **{(astuple(wrong), seed): np.ones(4000) for seed in (0, 1)}})
    found = cost_frame(table, answers, DECODERS["7b"], 0.02)
    assert list(found["equivalent_to_best"]) == ["", "best", ""]
    assert list(found["pareto_by_tokens"]) == [True, True, False]


def test_conditions_that_are_surely_worse_have_an_empty_word():
    conditions = summary({0: 0.5, 8: 0.6, 64: 0.7})
    table = cost_frame(conditions, answers_of({0: 0.0, 8: 0.1, 64: 0.2}), DECODERS["7b"], 0.02)
    assert list(table["equivalent_to_best"]) == ["", "", "best"]


def test_conditions_that_are_not_surely_worse_are_undecided():
    """0.05 points of 4,000 items, at a margin as small."""
    conditions = summary({0: 0.5, 8: 0.6995, 64: 0.7})
    table = cost_frame(conditions, answers_of({0: 0.0, 8: 0.1995, 64: 0.2}), DECODERS["7b"], 0.0005)
    assert list(table["equivalent_to_best"]) == ["", "undecided", "best"]


def test_split_batches_of_two_sizes_are_two_conditions():
    """Where a batch is split, conditions of one accumulation differ in their effective batch alone."""
    axes = axes_of("effective-batch")
    draws = np.random.default_rng(1).uniform(size=(2, 4000))
    rows = summary({8: 0.5}).iloc[[0, 0]].reset_index(drop=True)
    rows = rows.assign(micro_batch_size=[8, 16], effective_batch_size=[8, 16], accuracy=[0.5, 0.7])
    right = {
        (tuple(row[axis] for axis in axes), seed): (draws[seed] < row["accuracy"]).astype(float)
        for row in rows.to_dict("records")
        for seed in (0, 1)
    }
    answers = Answers(axes, right, np.arange(4000), np.array(["a"] * 4000), np.arange(4000).astype(str))
    assert list(cost_frame(rows, answers, DECODERS["7b"], 0.02)["equivalent_to_best"]) == ["", "best"]


def test_no_finished_condition_has_no_cost():
    empty = Answers(axes_of("micro-batch"), {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    conditions = summary({0: 0.5}).assign(seeds_done=0)
    table = cost_frame(conditions, empty, DECODERS["7b"], 0.02)
    assert table.empty
