"""What visual tokens hold: measures by hand, and parts of the model taken away and put back."""

import math

import pytest
import torch

from qtablate.datatypes import Item
from qtablate.evaluate.tokens import (
    cosine,
    curve,
    effective_rank,
    first_kept,
    looks,
    parts,
    query_diversity,
    replaced,
    sample,
)
from qtablate.model.query_resize import resize_extra_queries

ITEMS = [Item(f"t-{n}", "t", f"c{n % 3}", "what moves ?", ("red", "left"), n % 2) for n in range(6)]


@pytest.fixture
def seen() -> dict[str, torch.Tensor]:
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


def test_copies_are_told_from_tokens_that_differ(tiny, seen):
    clips = torch.stack(list(seen.values()))
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


def test_first_tokens_are_the_model_cut_by_surgery(tiny, seen):
    clips = torch.stack(list(seen.values()))
    resize_extra_queries(tiny, 5, "normal", 1)
    whole = tiny.visual_tokens(clips)
    for count in (0, 2, 5):
        with first_kept(tiny, count):
            some = tiny.visual_tokens(clips)
        assert some.shape[1] == 3 + count
        assert torch.equal(tiny.visual_tokens(clips), whole)  # all are back
        cut = tiny.extra_query_tokens.data.clone()
        resize_extra_queries(tiny, count, "normal", 1)
        assert torch.equal(tiny.visual_tokens(clips), some)
        resize_extra_queries(tiny, 5, "normal", 1)
        tiny.extra_query_tokens.data = cut


def test_replaced_tokens_are_the_same_for_every_clip(tiny, seen):
    clips = torch.stack(list(seen.values()))
    whole = tiny.visual_tokens(clips)
    with replaced(tiny, 3, 5, whole.mean(0)):
        some = tiny.visual_tokens(clips)
    assert torch.equal(some[:, :3], whole[:, :3])
    assert torch.allclose(some[:, 3:], whole.mean(0)[3:].expand(3, -1, -1))
    assert torch.equal(tiny.visual_tokens(clips), whole)


def test_parts_cover_all_tokens():
    assert parts(2, 0) == [("mean", 0, 2)]
    assert parts(2, 1) == [("first", 2, 2), ("mean", 0, 2), ("mean", 2, 3)]
    tried = parts(2, 10)
    assert [end - start for what, start, end in tried if what == "first"] == [0, 1, 2, 4, 8]
    groups = [(start, end) for what, start, end in tried if what == "mean"]
    assert groups[0] == (0, 2)
    assert [token for start, end in groups for token in range(start, end)] == list(range(12))


def test_the_curve_is_paired_with_the_whole_model(tiny, encoder, seen):
    resize_extra_queries(tiny, 2, "normal", 1)
    told = []
    held = curve(tiny, encoder, ITEMS, seen, lambda done, of: told.append((done, of)))
    assert [(one.what, one.tokens) for one in held] == [(what, (start, end)) for what, start, end in parts(3, 2)]
    assert told[-1] == (len(held), len(held))
    for one in held:
        assert one.accuracy.n == one.change.n == len(ITEMS)
    wholes = {round(one.accuracy.value - one.change.value, 9) for one in held}
    assert len(wholes) == 1  # the same whole behind every change


def test_attention_is_shared_out(tiny, encoder, seen):
    found = looks(tiny, encoder, ITEMS, seen)
    assert [one.token for one in found] == list(range(5))
    assert [one.extra for one in found] == [False] * 3 + [True] * 2
    for one in found:
        assert len(one.places) == 4 * 2 * 2
        assert sum(one.places.values()) == pytest.approx(1, abs=1e-5)
        assert one.from_question > 0
        assert one.from_answer > 0
    assert sum(one.from_answer for one in found) < 1  # texts have the rest
    assert tiny.qformer.config._attn_implementation == tiny.language_model.config._attn_implementation == "sdpa"


def test_a_token_that_looks_at_one_frame_is_seen_to(tiny, encoder, seen):
    """Keys of the second frame that match every query draw all attention."""
    layers = [layer for layer in tiny.qformer.encoder.layer if layer.has_cross_attention]
    for layer in layers:
        inner = layer.crossattention.attention
        inner.query.weight.data.zero_()
        inner.query.bias.data.fill_(1.0)
        inner.key.weight.data.copy_(torch.eye(24))
        inner.key.bias.data.zero_()
    bright = {name: torch.full((16, 24), -5.0) for name in seen}
    for value in bright.values():
        value[4:8] = 5.0
    for one in looks(tiny, encoder, ITEMS, bright):
        assert sum(share for (frame, _, _), share in one.places.items() if frame == 1) > 0.99


def test_a_sample_takes_some_of_every_task():
    items = [Item(f"{task}-{n}", task, "c", "?", ("a", "b"), 0) for task in "xy" for n in range(5)]
    assert [item.id for item in sample(items, 2)] == ["x-0", "x-1", "y-0", "y-1"]
