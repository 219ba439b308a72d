"""Local transformers directories of a vision tower and a language model -> a model directory of the `assembled` family."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    InstructBlipQFormerConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from qtablate.datatypes import VIDEO, Sample
from qtablate.errors import DataError, ModelError
from qtablate.model.assembled_model import VIDEO_TOWERS, AssembledConfig, AssembledModel
from qtablate.model.directory import read_preprocessing, unreadable_as_model_error
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize, normal
from qtablate.model.load import load_tokenizer, quiet_transformers
from qtablate.model.save import new_directory, save_tokenizer
from qtablate.prompts.registry import FORMATS

TOWER_CLASSES = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
"""Class of the vision half of models of images and texts; any other directory is a vision tower as it is."""
_HEAD_WIDTH = 64


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """The new Q-Former between vision tower and language model (BERT-base has 12 layers of 768)."""

    num_query_tokens: int = 32
    layers: int = 6
    width: int = 768
    num_frames: int = 8
    """Frames of a clip; a video tower has its own number."""
    conversation: str = ""
    """Conversation format; empty: chatml where the tokenizer knows its markers, else plain."""
    learning_rate: float = 1e-4
    """Default peak learning rate of sweeps: BLIP-2's for a new Q-Former (arXiv 2301.12597)."""


def assemble(vision: Path, llm: Path, out: Path, connector: ConnectorConfig) -> list[str]:
    """Write a model directory.

    Args:
        vision: transformers directory of a vision tower.
        llm: transformers directory or GGUF file of a language model.
        out: the model directory to write; must be new.

    Returns:
        A description of the model, one line per part.

    Raises:
        ModelError: the parts cannot be read or do not fit; nothing is written then.
    """
    quiet_transformers()
    if connector.width % _HEAD_WIDTH:
        raise ModelError(f"--qformer-width: {connector.width} is no multiple of {_HEAD_WIDTH}, the width of a head")
    if connector.conversation and connector.conversation not in FORMATS:
        raise ModelError(f"--conversation: unknown '{connector.conversation}'; known: {', '.join(FORMATS)}")
    tower = _load_tower(vision)
    language, tokenizer = _load_language_model(llm)
    conversation = _choose_conversation(connector.conversation, tokenizer)
    config = _model_config(tower.config, language.config, connector, conversation, read_preprocessing(vision))
    model = AssembledModel(config)
    model.vision, model.language_model = tower, language
    with torch.no_grad():
        for name in model.connector_modules:
            initialize(getattr(model, name), 0, name)
        table = model.query_tokens
        table.copy_(normal(tuple(table.shape), config.query_init_std, "init", 0, "query_tokens"))
        size = tower.config.image_size
        blank = torch.zeros(1, config.num_frames, 3, size, size)
        config.features_a_frame = model.vision_features(blank).shape[1] // config.num_frames
    config.fresh_parts = [*model.connector_modules, "query_tokens"]  # every cell reinitializes them (load.reinitialize)
    with new_directory(out) as folder:
        model.save_pretrained(folder)
        if llm.is_dir():
            save_tokenizer(llm, folder)
        else:
            tokenizer.save_pretrained(folder)
    return _describe(model, vision, llm)


def _choose_conversation(conversation: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the name of the conversation format, checked with the tokenizer.

    Raises:
        ModelError: the tokenizer lacks a token that the format needs.
    """
    name = conversation or ("chatml" if "<|im_start|>" in tokenizer.get_vocab() else "plain")
    try:
        ConversationEncoder(tokenizer, FORMATS[name]).encode_sample(Sample("example", VIDEO, "clip", (("What?", "this"),)))
    except DataError as error:
        raise ModelError(f"--conversation {name}: {error}; name another one") from None
    return name


def _model_config(
    vision: PreTrainedConfig,
    text: PreTrainedConfig,
    connector: ConnectorConfig,
    conversation: str,
    preprocessing: dict[str, list[float]],
) -> AssembledConfig:
    return AssembledConfig(
        vision_config=vision.to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=1,
            max_position_embeddings=1,
            pad_token_id=None,
            hidden_size=connector.width,
            num_hidden_layers=connector.layers,
            num_attention_heads=connector.width // _HEAD_WIDTH,
            intermediate_size=4 * connector.width,
            cross_attention_frequency=2,
            encoder_hidden_size=vision.hidden_size,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=connector.num_query_tokens,
        num_frames=vision.num_frames if vision.model_type in VIDEO_TOWERS else connector.num_frames,
        conversation=conversation,
        learning_rate=connector.learning_rate,
        image_mean=preprocessing.get("image_mean"),
        image_std=preprocessing.get("image_std"),
    )


def _describe(model: AssembledModel, vision: Path, llm: Path) -> list[str]:
    """Describe the model that was made, one line per part."""

    def count(*names: str) -> int:
        return sum(parameter.numel() for name in names for parameter in getattr(model, name).parameters())

    config = cast(AssembledConfig, model.config)
    tower, language = model.vision.config, model.language_model.config
    pixels = f"mean {config.image_mean}, deviation {config.image_std}" if config.image_mean else "CLIP's mean, none was found"
    return [
        f"vision: {tower.model_type} from {vision}, {count('vision'):,} parameters, {config.num_frames} frames of "
        f"{tower.image_size} px with {config.features_a_frame} features each; pixels: {pixels}",
        f"connector, reinitialized from each cell's seed: {count(*model.connector_modules):,} parameters, "
        f"{config.num_query_tokens} queries",
        f"language model: {language.model_type} from {llm}, {count('language_model'):,} parameters; "
        f"conversations: {config.conversation}",
    ]


def _load_tower(folder: Path) -> PreTrainedModel:
    """Load a vision tower.

    Raises:
        ModelError: the folder holds none, or one of another kind than those supported.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"--vision: {folder} is no transformers directory: expected config.json there")
    with unreadable_as_model_error(f"--vision: {folder}"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tower_class: Any = getattr(transformers, TOWER_CLASSES.get(config.model_type, "AutoModel"))
    with unreadable_as_model_error(f"--vision: {folder}"):
        tower: PreTrainedModel = tower_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype="float32"
        )
    for name in ("hidden_size", "image_size"):
        if not isinstance(getattr(tower.config, name, None), int):
            raise ModelError(
                f"--vision: {folder} holds a {config.model_type}, whose config has no {name}; "
                "expected ViT, CLIP, SigLIP, VideoMAE"
            )
    return tower


def _load_language_model(source: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load (model, tokenizer) from a transformers directory or a GGUF file.

    Raises:
        ModelError: the source is neither, or cannot be read.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if is_gguf := source.suffix == ".gguf" and source.is_file():
        if importlib.util.find_spec("gguf") is None:
            raise ModelError("--llm: a GGUF file needs the package gguf: pip install 'qtablate[gguf]'")
        options["gguf_file"] = source.name
    elif not (source / "config.json").is_file():
        raise ModelError(f"--llm: {source} is neither a GGUF file nor a transformers directory with config.json")
    folder = source.parent if is_gguf else source
    with unreadable_as_model_error(f"--llm: {source}"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32" if is_gguf else "auto", **options)
        return model, AutoTokenizer.from_pretrained(folder, **options) if is_gguf else load_tokenizer(source)
