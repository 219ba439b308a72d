"""Shared pieces: a tiny model of random weights that has every part of the real one, and its tokenizer."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("QTABLATE_FIGURES", "off")  # some seconds a report; tests of plots and pages turn them on
# wider vectors round fp32 otherwise: the golden numbers, whose logits are fp32, would be 1e-7 off on some machines
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
import torch

# torch has read it by now; what tests start computes as a user's command does: held to AVX2, fused bf16 attention stops on
# some machines
if torch.backends.cpu.get_cpu_capability():
    del os.environ["ATEN_CPU_CAPABILITY"]

from pathlib import Path

import pytest
from transformers import InstructBlipQFormerConfig, LlamaConfig, VideoMAEConfig

from qtablate.model.directory import NANO
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize, normal
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model
from qtablate.nano.tokenizer import build
from qtablate.prompts.registry import NANO_FORMAT

torch.set_num_threads(1)
LONGEST = ("test_sweep.py", "test_families.py", "test_examples.py", "test_kills.py", "test_interrupts.py", "test_pretrain.py")
"""Files whose tests launch whole sweeps, the slowest first: they are begun before all others, so that no core waits for one."""
WORDS = ["Ġred", "Ġleft", "Ġright", "Ġwhat", "Ġmoves", "?", "."]


def tiny_config(vocabulary: int, **changes: object) -> VideoChat2Config:
    width = 24
    settings: dict[str, object] = {
        "vision_config": VideoMAEConfig(
            image_size=16,
            patch_size=8,
            tubelet_size=1,
            num_frames=4,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
        ).to_dict(),
        "qformer_config": InstructBlipQFormerConfig(
            vocab_size=2,
            max_position_embeddings=2,
            pad_token_id=None,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            cross_attention_frequency=2,
            encoder_hidden_size=width,
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
        ).to_dict(),
        "text_config": LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            tie_word_embeddings=False,
            max_position_embeddings=256,
        ).to_dict(),
        "num_query_tokens": 3,
        "extra_num_query_tokens": 2,
        "position_frames": 2,
        "num_frames": 4,
        "query_init_std": 1.0,
    }
    return VideoChat2Config(**{**settings, **changes})


@pytest.fixture(scope="session")
def tokenizer():
    return build(WORDS)


@pytest.fixture(scope="session")
def encoder(tokenizer) -> ConversationEncoder:
    return ConversationEncoder(tokenizer, NANO_FORMAT)


@pytest.fixture
def tiny(tokenizer) -> VideoChat2Model:
    """A fresh model of random weights, fp32, no dropout."""
    model = VideoChat2Model(tiny_config(len(tokenizer)))
    initialize(model, 0, "tiny")
    model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "tiny", "base")
    model.extra_query_tokens.data = normal(tuple(model.extra_query_tokens.shape), 1.0, "tiny", "extra")
    return model


@pytest.fixture
def tiny_directory(tiny, tokenizer, tmp_path: Path) -> Path:
    """The tiny model as a directory on disk."""
    path = tmp_path / "tiny"
    tiny.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def nano_directory() -> Path:
    return NANO


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
