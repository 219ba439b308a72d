"""Growing and cutting the extra query tokens."""

import copy

import pytest
import torch

from qtablate.errors import ModelError
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.similarity import effective_rank


def test_growing_keeps_the_first_rows_and_says_so(tiny):
    old = tiny.extra_query_tokens.data.clone()
    said = resize_extra_queries(tiny, 6, "normal", seed=1)
    assert torch.equal(tiny.extra_query_tokens.data[:, :2], old)
    assert tiny.queries().shape == (1, 9, 24)
    assert (said.old_rows, said.new_rows, said.kept) == (2, 6, 2)
    assert str(said).startswith("extra query tokens: kept rows 0-1, made rows 2-5 (normal, std ")


def test_cutting_and_removing(tiny):
    old = tiny.extra_query_tokens.data.clone()
    assert str(resize_extra_queries(tiny, 1, "normal", 1)) == "extra query tokens: kept row 0, cut row 1"
    assert torch.equal(tiny.extra_query_tokens.data, old[:, :1])
    assert str(resize_extra_queries(tiny, 0, "normal", 1)) == "extra query tokens: cut row 0"
    assert "extra_query_tokens" not in tiny.state_dict()
    assert torch.equal(tiny.queries(), tiny.query_tokens)


def test_cells_of_one_seed_share_rows_whatever_the_number(tiny):
    resize_extra_queries(tiny, 0, "normal", 7)
    resize_extra_queries(tiny, 5, "normal", 7)
    five = tiny.extra_query_tokens.data.clone()
    resize_extra_queries(tiny, 0, "normal", 7)
    resize_extra_queries(tiny, 64, "normal", 7)
    assert torch.equal(tiny.extra_query_tokens.data[:, :5], five)
    resize_extra_queries(tiny, 0, "normal", 8)
    resize_extra_queries(tiny, 5, "normal", 8)
    assert not torch.equal(tiny.extra_query_tokens.data, five)


def test_normal_has_the_scale_of_the_base_queries(tiny):
    tiny.query_tokens.data *= 0.02
    resize_extra_queries(tiny, 0, "normal", 1)
    resize_extra_queries(tiny, 200, "normal", 1)
    assert tiny.extra_query_tokens.data.std().item() == pytest.approx(tiny.query_tokens.data.std().item(), rel=0.05)


def test_zeros_are_zeros_and_their_outputs_are_copies_of_one_another(tiny):
    resize_extra_queries(tiny, 0, "zeros", 1)
    resize_extra_queries(tiny, 4, "zeros", 1)
    assert not tiny.extra_query_tokens.any()
    out = tiny.visual_tokens(torch.randn(1, 16, 24))[0, 3:]
    assert torch.allclose(out, out[:1].expand_as(out), atol=1e-5)


def test_copies_are_the_base_queries_over_again_a_little_apart(tiny):
    resize_extra_queries(tiny, 0, "copy", 1)
    said = resize_extra_queries(tiny, 64, "copy", 1)
    assert "copies of the base queries" in str(said)
    table, base = tiny.extra_query_tokens.data[0], tiny.query_tokens.data[0]
    apart = table - base[[row % len(base) for row in range(64)]]
    assert apart.std().item() == pytest.approx(0.1 * base.std().item(), rel=0.1)
    fresh = copy.deepcopy(tiny)
    resize_extra_queries(fresh, 0, "normal", 1)
    resize_extra_queries(fresh, 64, "normal", 1)
    assert effective_rank(table) < 0.5 * effective_rank(fresh.extra_query_tokens.data[0])
    out = tiny.visual_tokens(torch.randn(1, 16, 24))[0, len(base) :]
    assert not torch.allclose(out[0], out[len(base)], atol=1e-3)  # two copies of one row are told apart


def test_unknown_initial_value_is_refused(tiny):
    with pytest.raises(ModelError, match="unknown initial value 'ones'"):
        resize_extra_queries(tiny, 4, "ones", 1)


def test_a_checkpoint_of_64_says_what_becomes_of_every_row(tiny):
    resize_extra_queries(tiny, 64, "normal", 1)
    said = []
    for wanted in (0, 32, 64, 96):
        own = copy.deepcopy(tiny)
        said.append(str(resize_extra_queries(own, wanted, "zeros", 1)).removeprefix("extra query tokens: "))
        kept = min(wanted, 64)
        if wanted:
            assert torch.equal(own.extra_query_tokens[:, :kept], tiny.extra_query_tokens[:, :kept])
    assert said == [
        "cut rows 0-63",
        "kept rows 0-31, cut rows 32-63",
        "kept rows 0-63",
        "kept rows 0-63, made rows 64-95 (zeros)",
    ]
