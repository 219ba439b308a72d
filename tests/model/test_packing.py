"""Packed training sequences: the reference is the padded path, and incorrect packings are shown to differ from it."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import tiny_config
from precision import in_fp64
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, OPTConfig, Phi3Config, Qwen2Config
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.model.adapter import adapter_weights, disable_lora_dropout, new_adapter
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize, normal
from qtablate.model.load import load
from qtablate.model.packing import ATTENTION, PACKABLE_TYPES, can_pack, enable_packing, packed_arguments
from qtablate.model.videochat2 import VideoChat2Model
from qtablate.train import batches
from qtablate.train.batches import MicroBatch, loss_sum, make_micro_batch
from qtablate.train.device import compute_context
from qtablate.train.trainable import choose_trainable

CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "phi3": Phi3Config,
    "gpt2": GPT2Config,
    "opt": OPTConfig,
}
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
TOKENS = 256
"""Text tokens of a sequence at most: none of these is as long."""


@pytest.fixture(scope="module")
def build_tiny(tokenizer):
    """Builds a fresh tiny model around a language model of a type, whose weights are large enough for attention to matter."""

    def build(kind: str = "llama", **settings: object) -> VideoChat2Model:
        sizes = {"vocab_size": len(tokenizer), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
        own = {
            "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
            "opt": {"ffn_dim": 32, "word_embed_proj_dim": 24, "dropout": 0.0, "attention_dropout": 0.0},
        }.get(kind, {"intermediate_size": 32, "max_position_embeddings": 256, "num_key_value_heads": 4})
        ids = {"pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1}
        text = CONFIGS[kind](**{**sizes, **own, **ids, **settings})
        model = VideoChat2Model(tiny_config(len(tokenizer), text_config=text.to_dict()))
        initialize(model, 0, "packing")
        model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "packing", "base")
        model.extra_query_tokens.data = normal(tuple(model.extra_query_tokens.shape), 1.0, "packing", "extra")
        for name, parameter in model.language_model.named_parameters():
            if parameter.ndim == 2:
                parameter.data = normal(tuple(parameter.shape), 0.3, "packing", name)
        return model

    return build


def ragged(n: int = 7) -> list[Sample]:
    """Conversations of very different lengths, both media."""
    return [
        Sample(
            str(number),
            IMAGE if number % 3 == 1 else VIDEO,
            str(number),
            tuple(("what moves?", " ".join(["red left moves"] * (1 + 3 * number % 7))) for _ in range(1 + number % 2)),
        )
        for number in range(n)
    ]


def micro_batch(encoder: ConversationEncoder, dtype: torch.dtype, max_text_tokens: int = TOKENS) -> MicroBatch:
    generator = torch.Generator().manual_seed(3)
    features = {s.clip: torch.randn(4 if s.medium == IMAGE else 16, 24, generator=generator).to(dtype) for s in ragged()}
    return make_micro_batch(ragged(), features.__getitem__, encoder, 5, max_text_tokens)


def loss_and_gradients(model: VideoChat2Model, batch: MicroBatch) -> Tensor:
    """The summed loss and all gradients of what is trained, as one vector."""
    parameters = list(choose_trainable(model, language_model=True, adapter=True).values())
    loss = loss_sum(model, batch)
    gradients = torch.autograd.grad(loss, parameters)
    assert all(bool(gradient.any()) for gradient in gradients)
    return torch.cat([loss.detach().flatten(), *(gradient.flatten() for gradient in gradients)])


def relative(a: Tensor, b: Tensor) -> float:
    """The larger of the losses' and the gradients' relative difference."""
    return max(float((x - y).norm() / y.norm()) for x, y in ((a[:1], b[:1]), (a[1:], b[1:])))


def packed_and_padded(model: VideoChat2Model, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    padded = loss_and_gradients(model, batch)
    enable_packing(model.language_model)
    assert can_pack(model.language_model, batch.text.lengths)
    return loss_and_gradients(model, batch), padded


def in_dtype(model: VideoChat2Model, dtype: torch.dtype) -> VideoChat2Model:
    return in_fp64(model) if dtype == torch.float64 else model


@PRECISIONS
@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("kind", PACKABLE_TYPES)
def test_packed_loss_and_gradients_equal_the_padded_ones(build_tiny, encoder, kind, heads, dtype, tolerance):
    """Of every type of language model that can be packed, also where query heads share keys and values."""
    model = in_dtype(build_tiny(kind, num_key_value_heads=heads), dtype)
    assert model.language_model.config.model_type == kind
    batch = micro_batch(encoder, dtype)
    assert len(set(batch.text.lengths)) > 3
    packed, padded = packed_and_padded(model, batch)
    assert relative(packed, padded) <= tolerance


@PRECISIONS
def test_they_are_equal_with_gradient_checkpointing(build_tiny, encoder, dtype, tolerance):
    model = in_dtype(build_tiny(num_key_value_heads=2), dtype).train()
    batch = micro_batch(encoder, dtype)
    _, padded = packed_and_padded(model, batch)
    compute_context(model, "fp32", gradient_checkpointing=True)
    calls: list[int] = []
    layer = model.language_model.get_decoder().layers[0].self_attn
    with layer.register_forward_pre_hook(lambda *_: calls.append(1)):
        recomputed = loss_and_gradients(model, batch)
    assert len(calls) == 2  # once in the backward pass
    assert relative(recomputed, padded) <= tolerance


@PRECISIONS
def test_they_are_equal_with_an_adapter(build_tiny, encoder, dtype, tolerance):
    model = build_tiny(num_key_value_heads=2)
    new_adapter(model, 4, seed=1)
    disable_lora_dropout(model)
    for name, parameter in adapter_weights(model).items():
        parameter.data = normal(tuple(parameter.shape), 0.3, "packing", name)  # B of a new one is zero, and A has no gradient
    packed, padded = packed_and_padded(in_dtype(model, dtype), micro_batch(encoder, dtype))
    assert relative(packed, padded) <= tolerance


@PRECISIONS
def test_they_are_equal_where_samples_are_truncated(build_tiny, encoder, dtype, tolerance):
    batch = micro_batch(encoder, dtype, max_text_tokens=20)
    assert 0 < batch.text.truncated < len(ragged())
    packed, padded = packed_and_padded(in_dtype(build_tiny(), dtype), batch)
    assert relative(packed, padded) <= tolerance


@PRECISIONS
def test_they_are_equal_where_the_first_embedding_is_a_number(build_tiny, encoder, dtype, tolerance):
    """As VideoChat2 was trained: it is that of every sequence, not that of the row."""
    batch = micro_batch(encoder, dtype)
    batch = replace(batch, text=replace(batch.text, first_embedding_value=2.0))
    model = in_dtype(build_tiny(), dtype)
    packed, padded = packed_and_padded(model, batch)
    assert relative(packed, padded) <= tolerance
    assert relative(loss_and_gradients(model, micro_batch(encoder, dtype)), padded) > 1e-2


def test_one_sequence_alone_is_packed_too(build_tiny, encoder):
    model, batch = in_fp64(build_tiny()), micro_batch(encoder, torch.float64)
    samples = ragged()[:1]
    [(_, features), *_] = batch.features
    alone = make_micro_batch(samples, {samples[0].clip: features[0]}.__getitem__, encoder, 5, TOKENS)
    packed, padded = packed_and_padded(model, alone)
    assert relative(packed, padded) <= 1e-12


def test_attention_across_sequences_differs(build_tiny, encoder, monkeypatch):
    """The negative control: the same packed row, taken for one sequence."""
    model = in_fp64(build_tiny())
    _, padded = packed_and_padded(model, micro_batch(encoder, torch.float64))
    monkeypatch.setattr(
        batches,
        "packed_arguments",
        lambda lengths, device: packed_arguments(lengths, device) | {"sequence_lengths": [sum(lengths)]},
    )
    assert relative(loss_and_gradients(model, micro_batch(encoder, torch.float64)), padded) > 1e-2


def test_positions_that_do_not_count_within_a_sequence_differ(build_tiny, encoder, monkeypatch):
    """The negative control. What rotary embeddings tell of positions is their differences alone, so that it changes nothing
    where a sequence's positions begin, as long as each sequence attends to itself; where they do not count, it does."""
    model = in_fp64(build_tiny())
    batch = micro_batch(encoder, torch.float64)
    _, padded = packed_and_padded(model, batch)

    def with_positions(change) -> Tensor:
        def changed(lengths, device):
            arguments = packed_arguments(lengths, device)
            return arguments | {"position_ids": change(arguments["position_ids"])}

        monkeypatch.setattr(batches, "packed_arguments", changed)
        return loss_and_gradients(model, batch)

    assert relative(with_positions(torch.zeros_like), padded) > 1e-2
    # rotary embeddings are computed in fp32, whose rounding depends on the position
    assert relative(with_positions(lambda ids: torch.arange(ids.shape[1])[None]), padded) < 1e-5


def test_positions_restart_with_every_sequence():
    arguments = packed_arguments([3, 1, 4], torch.device("cpu"))
    assert arguments["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    assert arguments["sequence_lengths"] == [3, 1, 4]


def calls_of_the_decoder(model: VideoChat2Model, batch: MicroBatch) -> list[dict]:
    """The arguments of every forward pass of the decoder that a loss takes."""
    seen: list[dict] = []
    decoder = model.language_model.get_decoder()
    with decoder.register_forward_pre_hook(lambda _, __, arguments: seen.append(arguments), with_kwargs=True):
        loss_sum(model, batch)
    return seen


def test_no_padding_is_computed(build_tiny, encoder):
    """The last token of a sequence predicts nothing, so it is not read either."""
    model, batch = build_tiny(), micro_batch(encoder, torch.float32)
    lengths = batch.text.lengths
    [padded] = calls_of_the_decoder(model, batch)
    assert padded["inputs_embeds"].shape == (len(lengths), max(lengths) - 1, 24)
    enable_packing(model.language_model)
    [packed] = calls_of_the_decoder(model, batch)
    assert packed["inputs_embeds"].shape == (1, sum(lengths) - len(lengths), 24)
    assert packed["sequence_lengths"] == [length - 1 for length in lengths]
    assert sum(lengths) < 0.8 * len(lengths) * max(lengths)


@pytest.mark.parametrize(("shorter", "packs"), [(0, True), (1, False), (20, False), (-20, True)])
def test_a_window_shorter_than_a_sequence_is_not_packed(build_tiny, encoder, shorter, packs):
    """Attention that reaches back only part of a sequence is transformers' own to compute."""
    batch = micro_batch(encoder, torch.float64)
    window = max(batch.text.lengths) - 1 - shorter
    model = in_fp64(build_tiny("mistral", sliding_window=window))
    padded = loss_and_gradients(model, batch)
    enable_packing(model.language_model)
    [call] = calls_of_the_decoder(model, batch)
    assert ("sequence_lengths" in call, len(call["inputs_embeds"]) == 1) == (packs, packs)
    assert relative(loss_and_gradients(model, batch), padded) <= 1e-12
    unlimited = in_fp64(build_tiny("mistral", sliding_window=None))
    assert (relative(loss_and_gradients(unlimited, batch), padded) <= 1e-12) == packs  # a window that is too short matters


@pytest.mark.parametrize("used", [False, True])
def test_a_window_that_is_switched_off_hinders_nothing(build_tiny, encoder, used):
    batch = micro_batch(encoder, torch.float64)
    model = in_fp64(build_tiny("qwen2", sliding_window=4, use_sliding_window=used, max_window_layers=0))
    model.language_model.config.sliding_window = 4  # some versions of transformers take it away with the switch
    padded = loss_and_gradients(model, batch)
    enable_packing(model.language_model)
    assert can_pack(model.language_model, [5]) != used
    assert relative(loss_and_gradients(model, batch), padded) <= 1e-12


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_other_types_keep_their_own_attention(build_tiny, encoder, kind):
    """The reference of their loss: every sample alone, which has no padding."""
    model, batch = in_fp64(build_tiny(kind)), micro_batch(encoder, torch.float64)
    before = model.language_model.config._attn_implementation
    enable_packing(model.language_model)
    assert model.language_model.config._attn_implementation == before != ATTENTION
    assert not can_pack(model.language_model, [5])
    features = {batch.samples[row].clip: clip for rows, clips in batch.features for row, clip in zip(rows, clips, strict=True)}
    alone = [make_micro_batch([sample], features.__getitem__, encoder, 5, TOKENS) for sample in ragged()]
    wanted = sum(float(loss_sum(model, one).detach()) for one in alone)
    assert float(loss_sum(model, batch).detach()) == pytest.approx(wanted, rel=1e-12)


def test_attention_that_was_chosen_by_name_is_kept(build_tiny):
    model = build_tiny()
    model.language_model.set_attn_implementation("eager")
    enable_packing(model.language_model)
    assert model.language_model.config._attn_implementation == "eager"
    assert not can_pack(model.language_model, [5])


def test_saved_directories_do_not_name_it_and_are_read_by_plain_transformers(tiny_directory, tmp_path, monkeypatch):
    """Transformers has no attention of this name where qtablate is not imported, and then refuses one that is named."""
    model, _ = load(str(tiny_directory))
    assert model.language_model.config._attn_implementation == ATTENTION
    model.save_pretrained(tmp_path / "whole")
    model.language_model.save_pretrained(tmp_path / "text")
    configs = {folder: (tmp_path / folder / "config.json").read_text() for folder in ("whole", "text")}
    assert not any("attn_implementation" in config or ATTENTION in config for config in configs.values())
    for registered in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        monkeypatch.delitem(registered._global_mapping, ATTENTION)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert plain.config._attn_implementation == "sdpa"
    weights = model.language_model.state_dict()
    assert weights.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())
    (tmp_path / "text" / "config.json").write_text(json.dumps(json.loads(configs["text"]) | {"attn_implementation": ATTENTION}))
    with pytest.raises(ValueError, match=ATTENTION):
        AutoModelForCausalLM.from_pretrained(tmp_path / "text")


def test_loading_enables_it_for_every_type_that_can_be_packed(build_tiny, tokenizer, tmp_path):
    for kind in CONFIGS:
        build_tiny(kind).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        model, _ = load(str(tmp_path / kind))
        assert (model.language_model.config._attn_implementation == ATTENTION) == (kind in PACKABLE_TYPES), kind
