"""Micro-batches in parts: the same gradient under every rule, the same steps, and no micro-batches themselves."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from precision import in_fp64

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.model import convert
from qtablate.model.load import load
from qtablate.train.accumulate import AccumulationRules as Rules
from qtablate.train.accumulate import WindowGradient, accumulate, clear_gradients
from qtablate.train.batches import MicroBatch, loss_sum, make_micro_batch, split_micro_batch
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.trainable import choose_trainable

GOLDEN = Path(__file__).parent.parent / "golden"
SIZE = 8
RULES = {
    "tokens": Rules(max_grad_norm=0.01),
    "micro_mean": Rules(loss_norm="micro_mean"),
    "none": Rules(loss_norm="none"),
    "clip_per": Rules(clip_per="micro_batch", max_grad_norm=0.01),
}


def ragged() -> list[Sample]:
    """Conversations of very different numbers of supervised tokens, both media."""
    words = [" ".join(["red", "left", "moves"][: 1 + n % 3] * (1 + 5 * (n % 4 == 0))) for n in range(24)]
    media = [IMAGE if n % 4 == 3 else VIDEO for n in range(24)]
    return [
        Sample(str(n), medium, f"{medium}{n}", (("what moves?", text),) * (1 + n % 3))
        for n, (medium, text) in enumerate(zip(media, words, strict=True))
    ]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.fixture
def model(tiny):
    return in_fp64(tiny)


@pytest.fixture
def features(tiny) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {s.clip: torch.randn(4 if s.medium == IMAGE else 16, 24, generator=generator).double() for s in ragged()}


def window(samples, features, encoder, size: int = SIZE) -> list[MicroBatch]:
    lookup = features.__getitem__
    return [make_micro_batch(samples[at : at + size], lookup, encoder, 5, 256) for at in range(0, len(samples), size)]


def gradient(model, batches, rules: Rules, parts: int = 1) -> tuple[torch.Tensor, WindowGradient, int]:
    """The window's gradient, its figures, and the samples of the largest forward pass."""
    parameters = list(choose_trainable(model, language_model=True).values())
    clear_gradients(parameters)
    largest = 0

    def loss(batch: MicroBatch) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(batch.samples))
        return loss_sum(model, batch)

    given = accumulate(batches, loss, parameters, rules, parts=lambda batch: split_micro_batch(batch, parts))
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]), given, largest


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("parts", "largest"), [(2, 4), (3, 3), (4, 2), (50, 1)])
def test_parts_leave_a_windows_gradient_as_it_is_under_every_rule(model, encoder, features, rules, parts, largest):
    silent = [Sample(s.id, s.medium, s.clip, ()) for s in ragged()[8:12]]  # a part without a supervised token
    batches = window([*ragged()[:8], *silent, *ragged()[12:]], features, encoder)
    whole, figures, size = gradient(model, batches, rules)
    split, of_parts, size_of_parts = gradient(model, batches, rules, parts)
    assert (size, size_of_parts) == (SIZE, largest)
    assert relative(split, whole) <= 1e-12
    for name in ("loss", "tokens", "norm", "scale"):
        assert getattr(of_parts, name) == pytest.approx(getattr(figures, name), rel=1e-12)


@pytest.mark.parametrize("name", ["micro_mean", "none", "clip_per"])
def test_smaller_micro_batches_in_their_place_are_another_gradient_but_under_the_first_rule(model, encoder, features, name):
    """The negative control: what a retry with a smaller --batch-size and a larger --accum would do."""
    batches = window(ragged(), features, encoder)
    smaller = [part for batch in batches for part in split_micro_batch(batch, 2)]
    for rules, same in ((RULES["tokens"], True), (RULES[name], False)):
        whole, *_ = gradient(model, batches, rules)
        other, *_ = gradient(model, smaller, rules)
        assert (relative(other, whole) <= 1e-12) is same
        assert same or relative(other, whole) > 1e-2


def test_a_part_is_its_rows_of_the_whole(encoder, features):
    [batch] = window(ragged()[:7], features, encoder)
    first, second = split_micro_batch(batch, 2)
    assert [list(first.samples), list(second.samples)] == [ragged()[:3], ragged()[3:7]]
    assert first.supervised_tokens + second.supervised_tokens == batch.supervised_tokens
    assert torch.equal(torch.cat([first.text.labels, second.text.labels]), batch.text.labels)
    for part, start in ((first, 0), (second, 3)):
        seen = {start + int(row): clip for rows, stacked in part.features for row, clip in zip(rows, stacked, strict=True)}
        assert sorted(seen) == list(range(start, start + len(part.samples)))
        assert all(torch.equal(clip, features[ragged()[row].clip]) for row, clip in seen.items())
    assert split_micro_batch(batch, 1) == [batch]  # the very one: nothing is copied


def steps(model, encoder, features, parts: int) -> tuple[list[dict], torch.Tensor]:
    plan = TrainPlan(SIZE, 2, 1e-3, 0.25, 0.25, 0.02, (0.9, 0.999), 40, Rules(max_grad_norm=0.5), micro_batch_parts=parts)
    parameters = choose_trainable(model, language_model=False)
    rows = [asdict(one) for one in Training(model, parameters, ragged() * 2, features.__getitem__, encoder, plan)]
    return rows, torch.cat([one.detach().flatten() for one in parameters.values()])


def test_a_run_in_parts_is_the_same_run_and_says_that_it_is_in_parts(model, encoder, features):
    """Its gradient noise, too, which is measured by micro-batches."""
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole, parameters = steps(model, encoder, features, 1)
    model.load_state_dict(start)
    split, of_parts = steps(model, encoder, features, 3)
    assert relative(of_parts, parameters) <= 1e-12
    assert {row["micro_batch_parts"] for row in whole} == {1}
    assert {row["micro_batch_parts"] for row in split} == {3}
    assert all(row["grad_noise"] is not None for row in split)
    assert sum(row["truncated_samples"] for row in split) > 0
    for mine, other in zip(split, whole, strict=True):
        for name in set(mine) - {"seconds", "micro_batch_parts"}:
            assert mine[name] == pytest.approx(other[name], rel=1e-9), name


def test_text_padded_on_the_left_keeps_its_positions(tmp_path):
    """VideoChat2's Q-Former counts the padding: a part that was padded by itself would have other visual tokens."""
    out = tmp_path / "model"
    sources = [GOLDEN / "stage2.pth", GOLDEN / "stage3.pth"]
    settings = convert.ConversionSettings(vision_heads=4, qformer_heads=4)
    convert.convert(sources, GOLDEN / "mistral-tiny", out, GOLDEN / "bert-base-uncased", settings)
    model, encoder = load(str(out))
    in_fp64(model).eval()
    encoder.qformer_tokenizer = replace(encoder.qformer_tokenizer, pad_left=True)
    samples = [replace(one, medium=VIDEO, instruction="what is it? " * (n % 4)) for n, one in enumerate(ragged()[:8])]
    width = model.config.qformer_config.encoder_hidden_size
    features = {
        s.clip: torch.randn(8, width, generator=torch.Generator().manual_seed(n)).double() for n, s in enumerate(samples)
    }
    lookup, tokens = features.__getitem__, model.count_visual_tokens
    batch = make_micro_batch(samples, lookup, encoder, tokens, 256)
    whole, *_ = gradient(model, [batch], Rules())
    split, *_ = gradient(model, [batch], Rules(), 4)
    assert relative(split, whole) <= 1e-12
    alone = [make_micro_batch(samples[at : at + 2], lookup, encoder, tokens, 256) for at in range(0, 8, 2)]
    other, *_ = gradient(model, alone, Rules())
    assert relative(other, whole) > 1e-6  # the negative control
