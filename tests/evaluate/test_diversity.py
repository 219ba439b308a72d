"""Measures of diversity by hand, and of extra queries that are copies of one."""

import math

import pytest
import torch

from qtablate.evaluate.diversity import query_diversity
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.similarity import cosine, effective_rank


@pytest.fixture
def clip_features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"c{n}": torch.randn(16, 24, generator=generator) for n in range(3)}  # 4 frames of 2 x 2 patches


def test_effective_rank_counts_directions():
    assert effective_rank(torch.eye(8)[:5]) == pytest.approx(5)
    assert effective_rank(torch.ones(7, 3)) == pytest.approx(1)
    half = torch.eye(4)[torch.tensor([0, 0, 1, 1])]
    assert effective_rank(half) == pytest.approx(2)
    assert effective_rank(torch.stack([torch.eye(4), half])) == pytest.approx(3)  # the mean of two clips
    shares = torch.tensor([3.0, 1.0])
    assert effective_rank(torch.diag(shares)) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert math.isnan(effective_rank(torch.zeros(3, 3)))


def test_cosine_is_the_mean_over_pairs():
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert cosine(rows) == pytest.approx((0 + 2 * math.sqrt(0.5)) / 3)
    assert cosine(torch.ones(4, 2)) == pytest.approx(1)
    assert cosine(rows[:1]) is None


def test_copies_are_told_from_tokens_that_differ(tiny, clip_features):
    clips = torch.stack(list(clip_features.values()))
    resize_extra_queries(tiny, 0, "normal", 1)
    resize_extra_queries(tiny, 6, "normal", 1)
    started = tiny.queries().detach().clone()
    apart = query_diversity(tiny, started, clips)
    assert apart.query_rank > 4.5
    assert apart.moved == apart.moved_base == 0
    tiny.query_tokens.data = tiny.query_tokens.data + 1
    assert query_diversity(tiny, started, clips).moved_base == pytest.approx(math.sqrt(24))
    tiny.extra_query_tokens.data = tiny.extra_query_tokens.data[:, :1].repeat(1, 6, 1)
    same = query_diversity(tiny, started, clips)
    assert (same.query_rank, same.query_cosine) == (pytest.approx(1, abs=1e-4), pytest.approx(1))
    assert (same.output_rank, same.output_cosine) == (pytest.approx(1, abs=1e-3), pytest.approx(1))
    assert same.moved > 0
