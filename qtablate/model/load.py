"""Loading a model directory: the model, its adapter and its conversation encoder (directory.py reads it without torch)."""

import json
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from qtablate.errors import ModelError
from qtablate.model.adapter import load_adapter
from qtablate.model.directory import (
    ADAPTER,
    FAMILIES,
    QFORMER_TOKENIZER,
    model_directory,
    read_config,
    unreadable_as_model_error,
    weight_files,
)
from qtablate.model.encode import ConversationEncoder, QFormerTokenizer
from qtablate.model.initialize import initialize, normal
from qtablate.model.packing import enable_packing
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.registry import FORMATS
from qtablate.prompts.videochat2 import StringTemplate


def load(model: str, dtype: str = "float32", frames: int | None = None) -> tuple[VideoLM, ConversationEncoder]:
    """Load a model and its encoder onto the CPU, from safetensors only; an adapter is added to its language model.

    Args:
        model: `nano` or a model directory.
        dtype: of vision tower and language model; connector, queries and adapter are float32.
        frames: per clip (see `check_frames`); None: the model's own number.

    Raises:
        ModelError: the directory is incomplete, or its parts do not fit one another.
    """
    folder, config = model_directory(model), read_config(model)
    _check_conversation(model, config)
    family = FAMILIES[config["model_type"]]
    module, _, name = family.model_class.partition(":")
    model_class: Any = getattr(import_module(module), name)
    quiet_transformers()
    loaded, info = model_class.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, local_files_only=True, dtype=dtype
    )
    mismatches = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if mismatches:
        raise ModelError(f"the weights in {model} do not fit its config.json: {json.dumps(mismatches)[:800]}")
    for key in (*family.defaults, "image_mean", "image_std"):
        setattr(loaded.config, key, config.get(key))  # from here on the config states the family's defaults too
    loaded.config.num_frames = frames or config["num_frames"]
    video_lm = cast(VideoLM, loaded)
    enable_packing(video_lm.language_model)
    if dtype != "float32":
        _restore_float32(video_lm, folder)
    if (folder / ADAPTER).is_dir():
        load_adapter(video_lm, folder / ADAPTER)
    encoder = ConversationEncoder(
        load_tokenizer(folder),
        FORMATS[config["conversation"]],
        _load_qformer_tokenizer(folder, config),
        config["bos_as_value"],
        config["supervise_end"],
        config["tell_seconds"],
    )
    return video_lm, encoder


def _check_conversation(model: str, config: Mapping[str, Any]) -> None:
    """Check that the config names a known conversation format, one with a place for timestamps where it wants them.

    Raises:
        ModelError: it does not.
    """
    conversation = config["conversation"]
    if conversation not in FORMATS:
        raise ModelError(f"unknown conversation format '{conversation}' in {model}; known: {', '.join(FORMATS)}")
    if config["tell_seconds"] and not isinstance(FORMATS[conversation], StringTemplate):
        able = ", ".join(name for name, template in FORMATS.items() if isinstance(template, StringTemplate))
        raise ModelError(f"{model}/config.json: 'tell_seconds' needs one of the conversations {able}")


def _restore_float32(model: VideoLM, folder: Path) -> None:
    """Reload connector and queries in float32 from the files: from_pretrained casts all parts to one dtype."""
    restored = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.partition(".")[0] in (*model.connector_modules, "query_tokens", "extra_query_tokens")
    }
    for parameter in restored.values():
        parameter.data = parameter.data.float()
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in restored.keys() & set(file.keys()):
                restored[name].data.copy_(file.get_tensor(name))


def quiet_transformers() -> None:
    """Hide transformers' progress bars and warnings: what matters is checked here, with its own messages."""
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder: tokenizer.json as it is, else what transformers makes of the older files.

    Raises:
        ModelError: the files cannot be read.
    """
    tokenizer_class = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    with unreadable_as_model_error(f"the tokenizer in {folder}"):
        tokenizer: PreTrainedTokenizerBase = tokenizer_class.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


def _load_qformer_tokenizer(folder: Path, config: Mapping[str, Any]) -> QFormerTokenizer | None:
    """Load the tokenizer of the Q-Former's text; None where the Q-Former reads no text.

    Raises:
        ModelError: it is needed and missing.
    """
    if not config["qformer_text"]:
        return None
    path = folder / QFORMER_TOKENIZER
    if not path.is_dir():
        raise ModelError(f"{folder}: its Q-Former reads text (qformer_text), so {QFORMER_TOKENIZER}/ is needed there")
    max_positions = config["qformer_config"].get("max_position_embeddings", 512)
    return QFormerTokenizer(load_tokenizer(path), min(config["max_txt_len"], max_positions), config["qformer_padded_left"])


def reinitialize(model: VideoLM, seed: int) -> list[str]:
    """Give initial values from the seed to the modules that the config lists, and return their names.

    The config's key is `fresh_parts`: a key of the file format, since renaming it would change the fingerprints of all
    model directories.

    Raises:
        ModelError: the config lists an unknown module.
    """
    reinit_modules = list(getattr(model.config, "fresh_parts", None) or [])
    known = (*model.connector_modules, "query_tokens")
    for name in reinit_modules:
        if name not in known:
            raise ModelError(f"unknown module '{name}' in fresh_parts of the model's config; known: {', '.join(known)}")
        if name == "query_tokens":
            table = model.query_tokens
            table.data = normal(tuple(table.shape), model.config.query_init_std, "init", seed, name).to(table.dtype)
        else:
            initialize(getattr(model, name), seed, name)
    return reinit_modules
