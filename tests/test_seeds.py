"""Random streams: reproducible, different from each other, and uniform."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import pytest

from qtablate.seeds import Rng, derive

PARTS = ("world/eval/video/7", 3, None, (1, "a"))


def nonuniformity(drawn: Iterable[object], outcomes: int) -> float:
    """Chi-square statistic against equal shares, in standard deviations above its mean."""
    counts = Counter(drawn)
    expected = counts.total() / outcomes
    seen = [*counts.values(), *[0] * (outcomes - len(counts))]
    chi = sum((count - expected) ** 2 / expected for count in seen)
    return (chi - (outcomes - 1)) / (2 * (outcomes - 1)) ** 0.5


def test_nonuniformity_detects_unequal_shares():
    assert nonuniformity([0] * 300 + [1] * 200, 2) > 5


def test_derive_is_the_first_63_bits_of_a_sha256():
    assert derive("a", 1) == int(hashlib.sha256(b"a/1").hexdigest()[:16], 16) // 2


@pytest.mark.parametrize("hash_seed", ["0", "1234"])
def test_derive_and_rng_are_the_same_in_another_process(hash_seed):
    code = (
        "from qtablate.seeds import Rng, derive\n"
        f"parts = {PARTS!r}\n"
        "rng = Rng(*parts)\n"
        "print([derive(*parts), rng.shuffled(range(20)), rng.randrange(1000), rng.bernoulli(0.5), rng.choice('abcdef')])"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    rng = Rng(*PARTS)
    here = [derive(*PARTS), rng.shuffled(range(20)), rng.randrange(1000), rng.bernoulli(0.5), rng.choice("abcdef")]
    assert out.strip() == str(here)


def test_derive_differs_by_every_part_and_fits_63_bits():
    seeds = {derive(seed, purpose) for seed, purpose in itertools.product(range(500), ("order", "media", "init"))}
    assert len(seeds) == 1500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
def test_randrange_is_uniform(n):
    rng = Rng("below", n)
    drawn = [rng.randrange(n) for _ in range(6000)]
    assert set(drawn) == set(range(n))
    assert n == 1 or nonuniformity(drawn, n) < 4


def test_choice_is_uniform():
    rng = Rng("pick")
    assert nonuniformity([rng.choice("abcde") for _ in range(5000)], 5) < 4


def test_shuffled_is_uniform_over_permutations_and_keeps_its_argument():
    rng, options = Rng("shuffled"), ["a", "b", "c", "d"]
    drawn = [tuple(rng.shuffled(options)) for _ in range(12_000)]
    assert nonuniformity(drawn, 24) < 4
    assert options == ["a", "b", "c", "d"]


def test_sample_is_uniform_over_ordered_draws_without_repetition():
    rng = Rng("sample")
    drawn = [tuple(rng.sample("abcd", 2)) for _ in range(6000)]
    assert all(a != b for a, b in drawn)
    assert nonuniformity(drawn, 12) < 4


def test_first_draws_of_neighbouring_streams_are_uniform_too():
    """Clips are streams named by a running number, so a benchmark depends on first draws over streams."""
    assert nonuniformity([Rng("clip", number).randrange(8) for number in range(8000)], 8) < 4


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli_is_true_as_often_as_its_probability(probability):
    rng, n = Rng("chance", probability), 10_000
    share = sum(rng.bernoulli(probability) for _ in range(n)) / n
    assert abs(share - probability) <= 4 * (probability * (1 - probability) / n) ** 0.5


def test_streams_agree_by_name_and_differ_otherwise():
    def draws(*parts: object) -> list[int]:
        rng = Rng(*parts)
        return [rng.randrange(1000) for _ in range(50)]

    assert draws(1, "order") == draws(1, "order")
    others = [draws(1, "media"), draws(2, "order"), draws("order", 1)]
    for a, b in itertools.combinations([draws(1, "order"), *others], 2):
        assert sum(x == y for x, y in zip(a, b, strict=True)) <= 3
