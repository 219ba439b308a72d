"""What is trained, what is frozen, and how the optimizer treats each."""

import copy
from dataclasses import replace

import pytest
import torch

from qtablate.datatypes import VIDEO, Sample
from qtablate.model.dropout import has_dropout
from qtablate.train.accumulate import AccumulationRules, clear_gradients
from qtablate.train.batches import loss_sum, make_micro_batch, stack_by_shape, visual_tokens
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.trainable import build_optimizer, choose_trainable

SAMPLES = [Sample(str(n), VIDEO, f"clip{n}", (("what moves?", "red left"),)) for n in range(4)]
FEATURES = {s.clip: torch.randn(16, 24, generator=torch.Generator().manual_seed(n)) for n, s in enumerate(SAMPLES)}
PLAN = TrainPlan(2, 1, 1e-2, 0.0, 1.0, 0.02, (0.9, 0.999), 256, AccumulationRules())


@pytest.mark.parametrize("language_model", [False, True])
def test_exactly_the_trainable_parameters_get_a_gradient(tiny, encoder, language_model):
    """Nothing that has an influence is left out, and nothing without one is counted."""
    tiny.requires_grad_(True)
    for parameter in tiny.parameters():
        parameter.requires_grad_(True)
    loss_sum(tiny, make_micro_batch(SAMPLES, FEATURES.__getitem__, encoder, 5, 256)).backward()
    parts = ("qformer", "query_tokens", "extra_query_tokens", "projection", *(["language_model"] if language_model else []))
    influential = {n for n, p in tiny.named_parameters() if p.grad is not None and n.partition(".")[0] in parts}
    clear_gradients(list(tiny.parameters()))
    chosen = choose_trainable(tiny, language_model)
    assert set(chosen) == influential
    assert {n for n, p in tiny.named_parameters() if p.requires_grad} == set(chosen)


def test_training_moves_what_is_trained_and_nothing_else(tiny, encoder):
    before = {name: value.clone() for name, value in tiny.named_parameters()}
    parameters = choose_trainable(tiny, False)
    list(Training(tiny, parameters, SAMPLES, FEATURES.__getitem__, encoder, PLAN))
    moved = {name for name, value in tiny.named_parameters() if not torch.equal(value, before[name])}
    assert moved <= set(parameters)
    assert {"query_tokens", "extra_query_tokens", "projection.weight"} <= moved


def test_decay_is_on_matrices_only(tiny):
    optimizer = build_optimizer(choose_trainable(tiny, True), 1e-2, 0.02, (0.9, 0.999), 1.0)
    decayed, others, extra = optimizer.param_groups
    assert extra["params"] == [tiny.extra_query_tokens]
    assert extra["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.02
    assert others["weight_decay"] == 0.0
    assert all(p.dim() == 2 for p in decayed["params"])
    plain = {id(p) for p in others["params"]}
    assert id(tiny.query_tokens) in plain
    assert id(tiny.projection.bias) in plain


def test_losses_fall(tiny, encoder):
    steps = list(Training(tiny, choose_trainable(tiny, True), SAMPLES * 30, FEATURES.__getitem__, encoder, PLAN))
    assert steps[-1].loss < 0.2 * steps[0].loss
    assert steps[-1].samples_seen == 120


def test_visual_tokens_keep_the_order_of_their_rows(tiny):
    """Media of different sizes are computed apart and put back."""
    mixed = [torch.randn(16, 24), torch.randn(4, 24), torch.randn(16, 24), torch.randn(4, 24)]
    together = torch.stack(visual_tokens(tiny, stack_by_shape(mixed)))
    alone = torch.cat([tiny.visual_tokens(one[None]) for one in mixed])
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together, alone[[0, 2, 1, 3]], atol=1e-3)


def test_the_extra_tokens_norm_is_taken_before_clipping_as_the_whole_is(tiny, encoder):
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    parameters = choose_trainable(tiny, False)
    [free] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, PLAN)
    tiny.load_state_dict(state)
    clipped = replace(PLAN, rules=AccumulationRules(max_grad_norm=1e-3))
    [held] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, clipped)
    assert held.grad_norm == pytest.approx(free.grad_norm)
    assert held.extra_grad_norm == pytest.approx(free.extra_grad_norm, rel=1e-4)
    assert float(tiny.extra_query_tokens.grad.norm()) < 1e-3 < held.extra_grad_norm


def test_conversations_that_lose_their_end_are_counted(tiny, encoder):
    short = replace(PLAN, max_text_tokens=9)
    [whole, _] = Training(tiny, choose_trainable(tiny, False), SAMPLES, FEATURES.__getitem__, encoder, PLAN)
    [cut, _] = Training(tiny, choose_trainable(tiny, False), SAMPLES, FEATURES.__getitem__, encoder, short)
    assert (whole.truncated_samples, cut.truncated_samples) == (0, 2)


def test_random_masks_are_noticed_wherever_they_are(tiny):
    assert not has_dropout(tiny)
    tiny.language_model.model.layers[0].self_attn.attention_dropout = 0.1
    assert has_dropout(tiny)
    tiny.language_model.model.layers[0].self_attn.attention_dropout = 0.0
    tiny.vision.encoder.layer[0].output.dropout.p = 0.1  # frozen, its features are cached
    assert not has_dropout(tiny)
    tiny.qformer.encoder.layer[0].attention.output.dropout.p = 0.1
    assert has_dropout(tiny)


def test_the_extra_tokens_learning_rate_is_a_multiple_of_the_others(tiny, encoder):
    start = copy.deepcopy(tiny.state_dict())
    moved = {}
    for factor in (1.0, 10.0):
        tiny.load_state_dict(start)
        parameters = choose_trainable(tiny, False)
        plan = replace(PLAN, extra_lr=factor)
        [step] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, plan)
        moved[factor] = [(tiny.state_dict()[name] - start[name]).norm() for name in ("extra_query_tokens", "query_tokens")]
        assert step.extra_update == pytest.approx(float(moved[factor][0] / start["extra_query_tokens"].norm()), rel=1e-5)
    assert float(moved[10.0][0] / moved[1.0][0]) == pytest.approx(10, rel=1e-3)
    assert torch.equal(moved[10.0][1], moved[1.0][1])


def test_copies_of_one_query_are_seen_at_every_step(tiny, encoder):
    parameters = choose_trainable(tiny, False)
    [apart] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, PLAN)
    tiny.extra_query_tokens.data[:] = tiny.extra_query_tokens.data[:, :1]
    [copies] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, replace(PLAN, learning_rate=1e-9))
    assert copies.extra_rank == pytest.approx(1, abs=1e-3)
    assert copies.extra_cosine == pytest.approx(1, abs=1e-4)
    assert apart.extra_rank > 1.5
    tiny.extra_query_tokens.data.zero_()
    [nothing] = Training(tiny, parameters, SAMPLES[:2], FEATURES.__getitem__, encoder, replace(PLAN, learning_rate=1e-9))
    assert nothing.extra_update is None  # relative to nothing


LONG = [Sample(str(n), VIDEO, "clip", (("what moves?", "red left" if n % 3 else "red right red left ."),)) for n in range(24)]


def test_resuming_at_a_window_is_bit_for_bit_the_uninterrupted_run(tiny, encoder, tmp_path):
    """Property 12 of accumulation, through a file, with dropout drawing masks."""
    tiny.qformer.config.hidden_dropout_prob = 0.1
    for layer in tiny.qformer.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.1
    start = copy.deepcopy(tiny.state_dict())
    features = {"clip": torch.randn(16, 24, generator=torch.Generator().manual_seed(7))}
    plan = TrainPlan(2, 3, 1e-2, 0.25, 0.25, 0.02, (0.9, 0.999), 256, AccumulationRules())

    def training() -> Training:
        tiny.load_state_dict(start)
        return Training(tiny, choose_trainable(tiny, False), LONG, features.__getitem__, encoder, plan)

    def told(steps):
        return [replace(step, seconds=0.0) for step in steps]

    torch.manual_seed(5)
    whole = told(training())
    end = copy.deepcopy(tiny.state_dict())

    torch.manual_seed(5)
    first, seen = training(), []
    for step in first:
        seen.append(step)
        if len(seen) == 2:
            torch.save(first.state(), tmp_path / "state.pt")
            break
    torch.manual_seed(99)  # another process
    second = training()
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert told(seen) + told(second) == whole
    assert all(torch.equal(end[name], value) for name, value in tiny.state_dict().items())

    second = training()  # the incorrect one: the optimizer's moments are forgotten
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.restore({**state, "optimizer": second.state()["optimizer"]})
    assert told(seen) + told(second) != whole
