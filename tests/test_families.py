"""Every family of models from its directory to a report, by the commands that a user types."""

import csv
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launch import here, swept
from settings import config
from transformers import (
    BertTokenizer,
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

from qtablate.audit.measure import audit

GOLDEN = Path(__file__).parent / "golden"
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def qtablate(*words: object, code: int = 0) -> str:
    """What a command printed, in this process; peft's own warnings are let pass (test_adapter.py)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return here(*words, code=code)


def videochat2(out: Path, _: object) -> str:
    return qtablate(
        "convert",
        GOLDEN / "stage2.pth",
        GOLDEN / "stage3_lora.pth",
        "--llm",
        GOLDEN / "mistral-tiny",
        "--bert",
        GOLDEN / "bert-base-uncased",
        "--vision-heads",
        4,
        "--qformer-heads",
        4,
        "--lora-alpha",
        8,
        "--out",
        out,
    )


def llama(tokenizer) -> LlamaConfig:
    return LlamaConfig(vocab_size=len(tokenizer) + 1, **SIZES, max_position_embeddings=1024)


def assembled(out: Path, tokenizer) -> str:
    parts = out.parent / "parts"
    ViTModel(ViTConfig(**SIZES, image_size=24, patch_size=8)).save_pretrained(parts / "vit")
    LlamaForCausalLM(llama(tokenizer)).save_pretrained(parts / "llm")
    tokenizer.save_pretrained(parts / "llm")
    return qtablate(
        "assemble",
        "--vision",
        parts / "vit",
        "--llm",
        parts / "llm",
        "--num-query-tokens",
        4,
        "--qformer-layers",
        2,
        "--qformer-width",
        64,
        "--num-frames",
        3,
        "--out",
        out,
    )


def instructblip(out: Path, tokenizer) -> str:
    config = InstructBlipVideoConfig(
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
        qformer_config={**SIZES, "vocab_size": 150, "max_position_embeddings": 64, "encoder_hidden_size": 24},
        text_config=llama(tokenizer).to_dict(),
        num_query_tokens=3,
        video_token_index=len(tokenizer),
    )
    InstructBlipVideoForConditionalGeneration(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    BertTokenizer.from_pretrained(str(GOLDEN / "bert-base-uncased")).save_pretrained(out / "qformer_tokenizer")
    return ""


FAMILIES: dict[str, tuple[Callable[[Path, object], str], str, list[str], int]] = {
    "videochat2": (videochat2, "LoRA: rank 4, alpha 8, kept as adapter", ["--lora", "4", "--gradient-checkpointing"], 8),
    "assembled": (assembled, "conversations: plain", ["--precision", "bf16", "--lora", "2"], 4),
    "instructblip": (instructblip, "", [], 4 * 3),
}
"""How one is made, what that says, options of its sweep, and the visual tokens of a video without extra ones."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_is_swept(family, tokenizer, tmp_path):
    make, said, options, base = FAMILIES[family]
    model = tmp_path / "model"
    assert said in make(model, tokenizer)
    grid = [
        "--tokens",
        "0,2",
        "--accum",
        "2",
        "--seeds",
        "1",
        "--samples",
        "32",
        "--items-per-task",
        "1",
        "--controls",
        "blind",
    ]
    given = ["--model", model, *grid, *options, "--out", tmp_path / "r"]
    swept(tmp_path, *given)
    with (tmp_path / "r" / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert {row["status"] for row in cells} == {"ok"}
    each = base // 4 if family == "instructblip" else base
    assert sorted({int(row["visual_tokens"]) for row in cells}) == [base, base // each * (each + 2)]
    assert {row["n_items"] for row in cells} == {"20"}
    assert all(float(row["train_loss"]) > 0 for row in cells)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("record.json")}
    swept(tmp_path, *given)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("record.json")} == before  # nothing ran again


def test_windows_of_a_qformer_that_reads_questions_a_frame_at_a_time_are_audited(tokenizer, tmp_path):
    instructblip(tmp_path / "model", tokenizer)
    found = audit(config(model=str(tmp_path / "model"), tokens=(2,), accum=(2,), samples=16, image_ratio=None))
    assert found.passed
    assert found.measurement.dropout[0] == "qformer.embeddings.dropout"


def test_plan_of_a_checkpoint_with_extra_tokens_says_what_becomes_of_them(tmp_path, monkeypatch):
    videochat2(tmp_path / "model", None)
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path))
    monkeypatch.setattr("qtablate.sweep.estimate.run_jobs", lambda *_: (one for one in ()))  # no probes
    out = qtablate(
        "sweep",
        "--model",
        tmp_path / "model",
        "--tokens",
        "0,8,16,24",
        "--accum",
        "1",
        "--seeds",
        "1",
        "--samples",
        "16",
        "--items-per-task",
        "1",
        "--controls",
        "blind",
        "--lora",
        "4",
        "--dry-run",
        "--out",
        tmp_path / "r",
    )
    assert (
        "The model's files hold 16 extra query tokens; at 0: cut rows 0-15; at 8: kept rows 0-7, cut rows 8-15; at 16: kept "
        "rows 0-15; at 24: kept rows 0-15, made rows 16-23 (as --extra-init says)." in out.replace("\n", " ")
    )
    assert "a LoRA of rank 4" in out.replace("\n", " ")
    assert not (tmp_path / "r").exists()


MISTAKES = {
    "unknown family": ({"model_type": "llava"}, [], "unknown model family 'llava' in MODEL/config.json; known: videochat2, "),
    "no room": ({}, ["--tokens", "0,32767"], "leaves no room for 512 tokens of text in the 32768 positions"),
    "both trained": ({}, ["--lora", "4", "--train-lm"], "--lora trains an adapter beside the frozen language model"),
    "diagnosis of a Q-Former with text": ({}, ["--diagnose"], "--diagnose measures VideoChat2's Q-Former"),
    "unknown precision": ({}, ["--precision", "fp8"], "--precision: expected one of fp32, bf16 or fp16, got fp8"),
    "wrong kind": ({"max_txt_len": "long"}, [], "'max_txt_len' should be of the type of 512, is 'long'"),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "model"
    videochat2(out, None)
    return out


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_message(name, converted, tmp_path):
    changes, options, message = MISTAKES[name]
    model = tmp_path / "model"
    model.mkdir()
    for file in converted.iterdir():
        (model / file.name).symlink_to(file)
    config = json.loads((converted / "config.json").read_text()) | changes
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config))
    out = qtablate("sweep", "--model", model, *options, "--dry-run", "--out", tmp_path / "r", code=2)
    assert message.replace("MODEL", str(model)) in out.replace("\n", " ")
    assert "Traceback" not in out


def test_mistakes_of_convert_and_assemble(tmp_path):
    given = ["--llm", GOLDEN / "mistral-tiny", "--out", tmp_path / "m"]
    for words, message in (
        (["convert", GOLDEN / "stage3.pth", *given], "this Q-Former reads text: --bert DIR is needed"),
        (["convert", tmp_path / "none.pth", *given], "none.pth does not exist; expected one of VideoChat2's .pth files"),
        (["convert", GOLDEN / "stage2.pth", *given, "--dtype", "int8"], "--dtype: unknown value 'int8'"),
        (["assemble", "--vision", tmp_path, *given], "is no transformers directory: expected config.json there"),
    ):
        out = qtablate(*words, code=2)
        assert message in out.replace("\n", " ")
        assert "Traceback" not in out
    assert not (tmp_path / "m").exists()


def test_what_is_loaded_of_a_split_directory(converted, tmp_path):
    """Weights in several files with an index, as large models are saved; a missing part is named."""
    from qtablate.errors import ModelError
    from qtablate.model.directory import fingerprint
    from qtablate.model.load import load

    whole = tmp_path / "whole"  # without the adapter, which stands in files of its own
    shutil.copytree(converted, whole, ignore=shutil.ignore_patterns("adapter"))
    model, _ = load(str(whole))
    model.save_pretrained(tmp_path / "split", max_shard_size="200KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "qformer_tokenizer"):
        (tmp_path / "split" / name).symlink_to(converted / name)
    parts = sorted((tmp_path / "split").glob("model-*.safetensors"))
    assert len(parts) > 1
    again, _ = load(str(tmp_path / "split"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    before = fingerprint(str(tmp_path / "split"))
    parts[0].rename(tmp_path / "kept")
    with pytest.raises(ModelError, match=f"names {parts[0].name}, which is not in that folder"):
        fingerprint(str(tmp_path / "split"))
    (tmp_path / "kept").rename(parts[0])
    assert fingerprint(str(tmp_path / "split")) == before
