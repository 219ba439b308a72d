"""Attention maps: shares that sum to one, and a token made to look at one frame."""

import pytest
import torch

from qtablate.datatypes import Item
from qtablate.evaluate.attention import attention_maps

ITEMS = [Item(f"t-{n}", "t", f"c{n % 3}", "what moves ?", ("red", "left"), n % 2) for n in range(6)]


@pytest.fixture
def clip_features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"c{n}": torch.randn(16, 24, generator=generator) for n in range(3)}  # 4 frames of 2 x 2 patches


def test_attention_is_shared_out(tiny, encoder, clip_features):
    found = attention_maps(tiny, encoder, ITEMS, clip_features)
    assert [one.token for one in found] == list(range(5))
    assert [one.extra for one in found] == [False] * 3 + [True] * 2
    for one in found:
        assert len(one.regions) == 4 * 2 * 2
        assert sum(one.regions.values()) == pytest.approx(1, abs=1e-5)
        assert one.from_question > 0
        assert one.from_answer > 0
    assert sum(one.from_answer for one in found) < 1  # texts have the rest
    assert tiny.qformer.config._attn_implementation == tiny.language_model.config._attn_implementation == "sdpa"


def test_a_token_that_looks_at_one_frame_is_seen_to(tiny, encoder, clip_features):
    """Keys of the second frame that match every query draw all attention."""
    layers = [layer for layer in tiny.qformer.encoder.layer if layer.has_cross_attention]
    for layer in layers:
        inner = layer.crossattention.attention
        inner.query.weight.data.zero_()
        inner.query.bias.data.fill_(1.0)
        inner.key.weight.data.copy_(torch.eye(24))
        inner.key.bias.data.zero_()
    bright = {name: torch.full((16, 24), -5.0) for name in clip_features}
    for value in bright.values():
        value[4:8] = 5.0
    for one in attention_maps(tiny, encoder, ITEMS, bright):
        assert sum(share for (frame, _, _), share in one.regions.items() if frame == 1) > 0.99
