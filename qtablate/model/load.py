"""Model directories: config.json, model.safetensors, tokenizer.json. `nano` names the one in the package."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from qtablate.errors import ModelError

if TYPE_CHECKING:  # reading a fingerprint or a config must not cost the import of torch
    from qtablate.model.encode import Encoder
    from qtablate.model.videochat2 import VideoChat2Model

NANO = Path(__file__).parent / "assets" / "nano"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
_OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PARTS = ("qformer", "query_tokens", "projection")
"""Parts that a base may leave to the cell to start anew (`fresh_parts` of its config)."""

DEFAULTS: dict[str, Any] = {"num_query_tokens": 32, "num_frames": 8, "learning_rate": 2e-5, "conversation": "nano"}
"""What VideoChat2Config assumes where a config.json is silent, for readers without torch."""


def directory(model: str) -> Path:
    """The folder of a model. Raises ModelError when it is not one."""
    path = NANO if model == "nano" else Path(model)
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise ModelError(
            f"'{model}' is not a model directory: expected {', '.join(FILES)}, missing {', '.join(missing)}. "
            "Use 'nano' or a directory that save_pretrained wrote."
        )
    return path


def read_config(model: str) -> dict[str, Any]:
    """config.json as it is, without torch."""
    try:
        found = json.loads((directory(model) / "config.json").read_text())
    except ValueError as error:
        raise ModelError(f"{model}/config.json is not JSON: {error}") from None
    family = found.get("model_type") if isinstance(found, dict) else None
    if family != "videochat2":
        raise ModelError(f"unknown model family '{family}' in {model}/config.json; known: videochat2")
    config: dict[str, Any] = DEFAULTS | found
    vision = config.get("vision_config")
    if not isinstance(vision, dict) or not isinstance(vision.get("image_size"), int):
        raise ModelError(f"{model}/config.json: expected 'vision_config' with 'image_size', a whole number of pixels")
    for name, default in DEFAULTS.items():
        kinds = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(config[name], kinds):
            raise ModelError(f"{model}/config.json: '{name}' should be of the kind of {default!r}, is {config[name]!r:.40}")
    return config


def fingerprint(model: str) -> str:
    """Of the files' contents. Raises ModelError when the weights' file is cut or no safetensors."""
    digest = hashlib.sha256()
    folder = directory(model)
    try:
        with safe_open(folder / "model.safetensors", framework="np"):
            pass  # its header, and that the file is as long as it says
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{model}/model.safetensors cannot be read: {error}; fetch or write it again") from None
    for name in (*FILES, *(name for name in _OPTIONAL if (folder / name).is_file())):
        with (folder / name).open("rb") as file:
            digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def base_scores(model: str, benchmark: str) -> dict[str, float]:
    """Accuracy by task that the base had on the benchmark of this fingerprint, before any ablation, where its directory
    says so; else empty."""
    try:
        note = json.loads((directory(model) / "scores.json").read_text())
        return dict(note["accuracy"]) if note["benchmark"] == benchmark else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def load(model: str) -> tuple["VideoChat2Model", "Encoder"]:
    """The model and its encoder, on the CPU, from safetensors only."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging as transformers_logging

    from qtablate.bench.prompts import FORMATS
    from qtablate.model.encode import Encoder
    from qtablate.model.videochat2 import VideoChat2Model

    path = directory(model)
    config = read_config(model)
    if config["conversation"] not in FORMATS:
        raise ModelError(f"unknown conversation format '{config['conversation']}' in {model}; known: {', '.join(FORMATS)}")
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    loaded: Any = VideoChat2Model.from_pretrained(
        path, use_safetensors=True, output_loading_info=True, local_files_only=True, dtype="float32"
    )
    found, info = loaded
    wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if wrong:
        raise ModelError(f"the weights in {model} do not fit its config.json: {json.dumps(wrong)[:800]}")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    return cast(VideoChat2Model, found), Encoder(tokenizer, FORMATS[config["conversation"]])


def start_anew(model: "VideoChat2Model", seed: int) -> list[str]:
    """Give the base's `fresh_parts` initial values from the seed; the parts' names are returned."""
    from qtablate.model.initialise import initialise, normal

    fresh = list(model.config.fresh_parts or [])
    for part in fresh:
        if part not in PARTS:
            raise ModelError(f"unknown part '{part}' in fresh_parts of the model's config; known: {', '.join(PARTS)}")
        if part == "query_tokens":
            table = model.query_tokens
            table.data = normal(tuple(table.shape), model.config.query_init_std, "init", seed, part).to(table.dtype)
        else:
            initialise(getattr(model, part), seed, part)
    return fresh
