"""Visual tokens taken away from a model, and put back."""

import pytest
import torch

from qtablate.datatypes import Item
from qtablate.evaluate.token_ablation import (
    Ablation,
    ablate_tokens,
    keep_first_tokens,
    list_ablations,
    replace_by_mean,
    sample_per_task,
)
from qtablate.model.query_resize import resize_extra_queries

ITEMS = [Item(f"t-{n}", "t", f"c{n % 3}", "what moves ?", ("red", "left"), n % 2) for n in range(6)]


@pytest.fixture
def clip_features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"c{n}": torch.randn(16, 24, generator=generator) for n in range(3)}  # 4 frames of 2 x 2 patches


def test_first_tokens_are_the_model_cut_by_surgery(tiny, clip_features):
    clips = torch.stack(list(clip_features.values()))
    resize_extra_queries(tiny, 5, "normal", 1)
    whole = tiny.visual_tokens(clips)
    for count in (0, 2, 5):
        with keep_first_tokens(tiny, count):
            some = tiny.visual_tokens(clips)
        assert some.shape[1] == 3 + count
        assert torch.equal(tiny.visual_tokens(clips), whole)  # all are back
        cut = tiny.extra_query_tokens.data.clone()
        resize_extra_queries(tiny, count, "normal", 1)
        assert torch.equal(tiny.visual_tokens(clips), some)
        resize_extra_queries(tiny, 5, "normal", 1)
        tiny.extra_query_tokens.data = cut


def test_replaced_tokens_are_the_same_for_every_clip(tiny, clip_features):
    clips = torch.stack(list(clip_features.values()))
    whole = tiny.visual_tokens(clips)
    with replace_by_mean(tiny, 3, 5, whole.mean(0)):
        some = tiny.visual_tokens(clips)
    assert torch.equal(some[:, :3], whole[:, :3])
    assert torch.allclose(some[:, 3:], whole.mean(0)[3:].expand(3, -1, -1))
    assert torch.equal(tiny.visual_tokens(clips), whole)


def test_ablations_cover_all_tokens():
    assert list_ablations(2, 0) == [Ablation("mean", 0, 2)]
    assert list_ablations(2, 1) == [Ablation("first", 2, 2), Ablation("mean", 0, 2), Ablation("mean", 2, 3)]
    ablations = list_ablations(2, 10)
    assert [one.end - one.start for one in ablations if one.kind == "first"] == [0, 1, 2, 4, 8]
    groups = [(one.start, one.end) for one in ablations if one.kind == "mean"]
    assert groups[0] == (0, 2)
    assert [token for start, end in groups for token in range(start, end)] == list(range(12))


def test_ablations_are_paired_with_the_model_with_all_tokens(tiny, encoder, clip_features):
    resize_extra_queries(tiny, 2, "normal", 1)
    reports = []
    results = ablate_tokens(tiny, encoder, ITEMS, clip_features, lambda done, of: reports.append((done, of)))
    assert [one.ablation for one in results] == list_ablations(3, 2)
    assert reports[-1] == (len(results), len(results))
    for one in results:
        assert one.accuracy.n == one.change.n == len(ITEMS)
    with_all = {round(one.accuracy.value - one.change.value, 9) for one in results}
    assert len(with_all) == 1  # the same accuracy with all tokens behind every change


def test_a_sample_takes_some_of_every_task():
    items = [Item(f"{task}-{n}", task, "c", "?", ("a", "b"), 0) for task in "xy" for n in range(5)]
    assert [item.id for item in sample_per_task(items, 2)] == ["x-0", "x-1", "y-0", "y-1"]
