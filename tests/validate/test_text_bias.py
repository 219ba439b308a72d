"""Chance, text bias, gold positions and sortedness: against scipy, by hand, and over random files."""

import random

import numpy as np
import pytest
from scipy import stats

from qtablate.datatypes import Item
from qtablate.validate.summaries import SORTED_SCORE, SORTED_Z, TEXT_BIAS_Z
from qtablate.validate.text_bias import chance, gold_positions, gold_positions_p, sortedness, text_bias


def items(golds: list[str], options: list[list[str]], clips: list[str] | None = None) -> list[Item]:
    return [
        Item(f"t-{n}", "t", clips[n] if clips else f"c{n}", "?", tuple(texts), texts.index(gold))
        for n, (gold, texts) in enumerate(zip(golds, options, strict=True))
    ]


SHARES = [[100, 100], [50] * 4, [150, 30, 20], [190, 10], [5] * 40, [3] * 66, [40] * 5, [199, 1], [192, 8], [12, 12], [7, 7]]


@pytest.mark.parametrize("sizes", SHARES, ids=str)
def test_shuffled_files_are_hardly_ever_taken_for_sorted_and_sorted_ones_are(sizes):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    dice = random.Random(0)
    alarms, z = 0, []
    for _ in range(1000):
        dice.shuffle(labels)
        seen = sortedness(labels)
        alarms += seen is not None and seen.score >= SORTED_SCORE and seen.z >= SORTED_Z
        z += [seen.z] if seen else []
    assert alarms == 0
    blocks = sortedness(sorted(labels))
    if len(sizes) * 4 > len(labels) or len(labels) - max(sizes) < 8:
        assert blocks is None
        assert z == []
        return
    assert (blocks.score, blocks.equal_neighbors) == (1.0, len(labels) - len(sizes))
    assert blocks.z > SORTED_Z or len(labels) < 30
    assert abs(np.mean(z)) < 0.15  # the formulas of its mean and spread
    assert abs(np.std(z) - 1) < 0.1


def test_alternating_labels_are_not_sorted():
    assert sortedness(["a", "b"] * 50).score == pytest.approx(-1, abs=0.05)


def test_chance_and_places_where_candidates_vary():
    options = [["a"], ["a", "b"], ["a", "b", "c", "d"], ["a", "b", "c", "d"]]
    some = items(["a", "b", "d", "a"], options)
    assert chance(some) == (1 + 1 / 2 + 1 / 4 + 1 / 4) / 4
    assert gold_positions(some) == (2, 1, 0, 1)
    assert gold_positions_p(items(["a"], [["a"]])) == 1.0


def test_with_one_number_of_candidates_it_is_pearsons_test():
    golds = ["a"] * 30 + ["b"] * 20 + ["c"] * 25 + ["d"] * 5
    assert gold_positions_p(items(golds, [list("abcd")] * 80)) == pytest.approx(stats.chisquare([30, 20, 25, 5]).pvalue)


def test_p_is_uniform_where_candidates_vary_and_places_are_random():
    dice = random.Random(0)
    options = [list("abcd")[: 1 + n % 4] for n in range(200)]
    p = [gold_positions_p(items([dice.choice(texts) for texts in options], options)) for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    skewed = [texts[0] for texts in options]
    assert gold_positions_p(items(skewed, options)) < 1e-10


def test_text_bias_is_that_of_the_other_items():
    options = [["yes", "no"]] * 4
    one = text_bias(items(["yes", "yes", "yes", "no"], options))
    assert one.accuracy == 0.75
    assert text_bias(items(["yes", "yes", "no", "no"], options)).accuracy == 0.0  # the others always say the other
    assert text_bias(items(["a", "b", "c"], [["a", "x"], ["b", "x"], ["c", "x"]])).accuracy == 0.5  # nothing repeats: ties
    assert text_bias(items(["Yes.", "yes"], [["Yes.", "no"], ["no", "yes"]])).accuracy == 1.0
    # 1 and 0 twice each around 3/4, in clips of two: by hand
    twice = text_bias(items(["yes", "yes", "yes", "no"], options, ["c", "c", "d", "d"]))
    assert twice.stderr == pytest.approx(np.sqrt(2 * (0.5**2 + 0.5**2)) / 4)
    assert np.isnan(text_bias(items(["yes", "no"], options[:2], ["c", "c"])).stderr)


def test_text_bias_of_random_golds_raises_no_alarm_and_a_strong_one_does():
    dice = random.Random(0)
    options = [dice.sample(["1", "2", "3", "4"], 3) for _ in range(200)]
    z = [text_bias(items([dice.choice(texts) for texts in options], options)).z for _ in range(300)]
    assert max(z) < TEXT_BIAS_Z
    assert (
        text_bias(items([max(texts) if n % 2 else dice.choice(texts) for n, texts in enumerate(options)], options)).z
        > TEXT_BIAS_Z
    )
