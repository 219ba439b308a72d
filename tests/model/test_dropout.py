"""Which layers draw random masks: the reference is a layer's own behavior in training mode."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, OPTConfig, OPTForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from qtablate.model.dropout import DropPath, disable_dropout, dropout_layers, has_dropout

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 11}
X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
IDS = torch.arange(10).reshape(2, 5)


class ConfigAttention(nn.Module):
    """An attention layer that holds no rate and reads its config's in every call, as some of transformers' do."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.config = LlamaConfig(attention_dropout=rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rate = self.config.attention_dropout if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=rate)


class StochasticDepth(nn.Module):
    """A layer of another package: DropPath under another class name, with its rate in `drop_prob`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop_prob = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand(len(x), 1, 1) >= self.drop_prob) if self.training else x


def opt(rate: float) -> nn.Module:
    """Its decoder layers hold the rate as a number in `dropout`."""
    return OPTForCausalLM(
        OPTConfig(**SIZES, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=16, dropout=rate, attention_dropout=0.0)
    )


def opt_attention(rate: float) -> nn.Module:
    return OPTForCausalLM(
        OPTConfig(**SIZES, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=16, dropout=0.0, attention_dropout=rate)
    )


def gpt2(rate: float) -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=11, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=rate)
    )


def bert(rate: float) -> nn.Module:
    return BertModel(BertConfig(**SIZES, intermediate_size=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=rate))


MODELS = {
    "Dropout": (nn.Dropout, lambda m: m(X)),
    "Dropout1d": (nn.Dropout1d, lambda m: m(X)),
    "AlphaDropout": (nn.AlphaDropout, lambda m: m(X)),
    "DropPath": (DropPath, lambda m: m(X)),
    "another package's DropPath": (StochasticDepth, lambda m: m(X)),
    "MultiheadAttention": (lambda rate: nn.MultiheadAttention(16, 2, dropout=rate), lambda m: m(X, X, X)[0]),
    "TransformerEncoderLayer": (lambda rate: nn.TransformerEncoderLayer(16, 2, 16, dropout=rate), lambda m: m(X)),
    "LSTM": (lambda rate: nn.LSTM(16, 16, num_layers=2, dropout=rate), lambda m: m(X)[0]),
    "attention that reads its config": (ConfigAttention, lambda m: m(X)),
    "OPT": (opt, lambda m: m(input_ids=IDS).logits),
    "OPT's attention": (opt_attention, lambda m: m(input_ids=IDS).logits),
    "GPT-2's attention": (gpt2, lambda m: m(input_ids=IDS).logits),
    "BERT's attention": (bert, lambda m: m(input_ids=IDS).last_hidden_state),
}


def is_random(model: nn.Module, run) -> bool:
    """Tell whether two passes in training mode differ."""
    model.train()
    with torch.no_grad():
        return not torch.equal(run(model), run(model))


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_with_a_rate_is_found_and_disabled_and_one_without_is_not(name):
    build, run = MODELS[name]
    torch.manual_seed(1)
    model = build(0.5)
    assert is_random(model, run)
    assert has_dropout(model)
    for layer in dropout_layers(model).values():
        disable_dropout(layer)
    assert not has_dropout(model)
    assert not is_random(model, run)
    none = build(0.0)
    assert not is_random(none, run)
    assert not has_dropout(none)


def test_the_attribute_counts_where_the_config_says_otherwise():
    config = LlamaConfig(**SIZES, attention_dropout=0.5)
    layer = LlamaAttention(config, 0)
    layer.attention_dropout = 0.0
    assert not has_dropout(layer)
    layer.attention_dropout = 0.5
    assert dropout_layers(layer) == {"": layer}


@pytest.mark.parametrize("tower", ["vision", "vision_model"])
def test_the_frozen_vision_tower_does_not_count(tower):
    model = nn.ModuleDict({tower: nn.Sequential(nn.Dropout(0.5)), "vision_norm": nn.LayerNorm(2)})
    assert not has_dropout(model)
    model["vision_norm"] = nn.Sequential(nn.LayerNorm(2), nn.Dropout(0.5))
    assert list(dropout_layers(model)) == ["vision_norm.1"]
