"""Costs by formula against PyTorch's own counting, and which conditions are worth it."""

import json
from dataclasses import asdict, astuple, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from qtablate.errors import QtablateError
from qtablate.grid import Condition
from qtablate.report.advice import advice
from qtablate.report.answers import Answers, axes_of
from qtablate.report.cost import cost_frame, pareto
from qtablate.report.decoders import DECODERS, Decoder, read_decoder

TINY = Decoder("tiny", 2, 32, 4, 2, 48, 8)


def tiny() -> LlamaModel:
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        attn_implementation="eager",
    )
    return LlamaModel(config)


@pytest.mark.parametrize("tokens", [7, 40])
def test_prefill_is_what_pytorch_counts(tokens):
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        tiny()(inputs_embeds=torch.zeros(1, tokens, 32))
    assert counter.get_total_flops() == TINY.prefill_flops(tokens)


def test_the_cache_is_what_a_model_keeps():
    with torch.inference_mode():
        cache = tiny().bfloat16()(inputs_embeds=torch.zeros(1, 9, 32, dtype=torch.bfloat16), use_cache=True).past_key_values
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert TINY.cache_bytes(9) == 2 * kept


@pytest.mark.parametrize(("name", "billions"), [("7b", 6.48), ("13b", 12.69), ("mistral-7b", 6.98), ("phi-3-mini", 3.62)])
def test_known_models_have_their_weights(name, billions):
    """All weights of the layers: published sizes less the two vocabulary tables (6.74 - .26, 13.02 - .33, ...)."""
    assert DECODERS[name].weights / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_config_json_is_a_model(tmp_path):
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"text_config": config}))
    for name in (folder, folder / "config.json"):
        found = read_decoder(str(name))
        assert (found.name, found.prefill_flops(5)) == ("mine", TINY.prefill_flops(5))
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(QtablateError, match="no 'hidden_size'"):
        read_decoder(str(folder))
    for text in ("[]", "{", '{"hidden_size": "x"}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(QtablateError, match="--cost-model"):
            read_decoder(str(folder))
    with pytest.raises(QtablateError, match="neither one of 7b, 13b"):
        read_decoder("8b")


def test_nothing_beats_what_is_on_the_front():
    assert pareto([1, 2, 3, 3], [0.5, 0.4, 0.6, 0.7]) == [True, False, False, True]
    assert pareto([1, 1], [0.5, 0.5]) == [True, True]
    assert pareto([], []) == []


def condition(tokens):
    return Condition(tokens, 1, 8, "mixed", "normal" if tokens else "none")


def summary(accuracies):
    rows = [
        {
            **asdict(condition(tokens)),
            "incorrect": "",
            "seeds_done": 2,
            "visual_tokens": 2 + tokens,
            "steps": 100,
            "train_seconds": 10.0 + tokens,
            "eval_seconds": 4.0,
            "n_items": 400,
            "peak_memory_mb": 500.0,
            "accuracy": accuracy,
            "accuracy_item_stderr": 0.01,
            "chance": 0.25,
            "visual_gain": accuracy - 0.25,
            "visual_gain_item_stderr": 0.01,
            "n_clusters": 400,
        }
        for tokens, accuracy in accuracies.items()
    ]
    return pd.DataFrame(rows)


def given(effects, items=4000):
    random = np.random.default_rng(1)
    draws = random.uniform(size=(2, items))
    right = {
        (astuple(condition(tokens)), seed): (draws[seed] < 0.5 + effect).astype(float)
        for tokens, effect in effects.items()
        for seed in (0, 1)
    }
    return Answers(axes_of("micro-batch"), right, np.arange(items), np.array(["a"] * items), np.arange(items).astype(str))


def test_the_cheapest_that_is_as_good_is_advised():
    conditions = summary({0: 0.5, 8: 0.695, 64: 0.7})
    table = cost_frame(conditions, given({0: 0.0, 8: 0.195, 64: 0.2}), DECODERS["7b"], 0.02)
    assert list(table["equivalent_to_best"]) == ["", "equivalent", "best"]
    assert list(table["pareto_by_tokens"]) == [True, True, True]
    assert list(table["prefill_gflops_added"] > 0) == [True] * 3
    assert table["step_seconds"].tolist() == [0.1, 0.18, 0.74]
    assert table["item_milliseconds"].tolist() == [10.0] * 3
    text = advice(table, conditions, 0.02)
    assert "Best here: extra tokens 64" in text
    assert "extra tokens 8, accum 1 (69.5 %), 10 instead of 66 visual tokens" in text


def test_an_incorrect_condition_is_neither_best_nor_on_a_front():
    wrong = Condition(64, 4, 8, "mixed", "normal", loss_norm="micro_mean")
    table = summary({0: 0.5, 64: 0.6})
    third = table.tail(1).assign(**asdict(wrong), incorrect="loss_norm=micro_mean", accuracy=0.9)
    table = pd.concat([table, third], ignore_index=True)
    answers = given({0: 0.0, 64: 0.1})
    answers = replace(answers, correct={**answers.correct, **{(astuple(wrong), seed): np.ones(4000) for seed in (0, 1)}})
    found = cost_frame(table, answers, DECODERS["7b"], 0.02)
    assert list(found["equivalent_to_best"]) == ["", "best", ""]
    assert list(found["pareto_by_tokens"]) == [True, True, False]
    assert "incorrect" not in advice(found, table, 0.02)


def test_where_nothing_cheaper_is_surely_as_good_it_is_said():
    conditions = summary({0: 0.5, 8: 0.6, 64: 0.7})
    table = cost_frame(conditions, given({0: 0.0, 8: 0.1, 64: 0.2}), DECODERS["7b"], 0.02)
    assert list(table["equivalent_to_best"]) == ["", "", "best"]
    assert "No cheaper condition is surely within 2 points" in advice(table, conditions, 0.02)


def test_what_is_undecided_beside_the_best_is_named():
    """0.05 points of 4,000 items, at a margin as small."""
    conditions = summary({0: 0.5, 8: 0.6995, 64: 0.7})
    table = cost_frame(conditions, given({0: 0.0, 8: 0.1995, 64: 0.2}), DECODERS["7b"], 0.0005)
    assert list(table["equivalent_to_best"]) == ["", "undecided", "best"]
    said = advice(table, conditions, 0.0005)
    assert "Best here: extra tokens 64, accum 1 (70.0 %). Undecided against the best: extra tokens 8, accum 1 (70.0 %)." in said


def test_split_batches_of_two_sizes_are_not_taken_for_one_another():
    """Where a batch is split, conditions of one accumulation differ in their effective batch alone."""
    axes = axes_of("effective-batch")
    draws = np.random.default_rng(1).uniform(size=(2, 4000))
    rows = summary({8: 0.5}).iloc[[0, 0]].reset_index(drop=True)
    rows = rows.assign(micro_batch_size=[8, 16], effective_batch_size=[8, 16], accuracy=[0.5, 0.7])
    right = {
        (tuple(row[axis] for axis in axes), seed): (draws[seed] < row["accuracy"]).astype(float)
        for row in rows.to_dict("records")
        for seed in (0, 1)
    }
    answers = Answers(axes, right, np.arange(4000), np.array(["a"] * 4000), np.arange(4000).astype(str))
    assert list(cost_frame(rows, answers, DECODERS["7b"], 0.02)["equivalent_to_best"]) == ["", "best"]


def test_no_finished_condition_costs_nothing_and_advises_nothing():
    empty = Answers(axes_of("micro-batch"), {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    conditions = summary({0: 0.5}).assign(seeds_done=0)
    table = cost_frame(conditions, empty, DECODERS["7b"], 0.02)
    assert table.empty
    assert advice(table, conditions, 0.02) == ""
