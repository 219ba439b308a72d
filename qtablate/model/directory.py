"""Model directories: config.json, weights and tokenizer files, read without torch. `nano` names the one in the package.

Families are told apart by config.json's `model_type`; load.py builds the model.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from qtablate.errors import ConfigError, ModelError

NANO = Path(__file__).parents[1] / "nano" / "assets"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
"""Names the shards, where the weights are split over several files."""
QFORMER_TOKENIZER = "qformer_tokenizer"
"""Folder of the Q-Former's own tokenizer."""
PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
ADAPTER = "adapter"
"""Folder of a LoRA of the language model, in peft's format."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Any one of these files makes a tokenizer."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A family of models: the class that loads it, and the defaults of its config.json."""

    model_class: str
    """module:class"""
    defaults: Mapping[str, bool | int | float | str]
    tokens_per_frame: bool = False
    """Whether each frame has its own visual tokens, or the whole clip shares them."""

    def visual_tokens(self, config: Mapping[str, Any], extra: int) -> int:
        """Count the visual tokens of a video of config's number of frames, at `extra` extra query tokens."""
        return int((config["num_query_tokens"] + extra) * (config["num_frames"] if self.tokens_per_frame else 1))


_DEFAULTS: dict[str, bool | int | float | str] = {
    "num_query_tokens": 32,
    "extra_num_query_tokens": 0,
    "num_frames": 8,
    "learning_rate": 2e-5,
    "conversation": "nano",
    "qformer_text": False,
    "max_txt_len": 512,
    "bos_as_value": False,
    "qformer_padded_left": False,
    "supervise_end": True,
    "tell_seconds": False,
}
_INSTRUCTBLIP = FamilySpec(
    "qtablate.model.instructblip:InstructBlipVideoModel",
    _DEFAULTS | {"num_frames": 4, "learning_rate": 1e-5, "conversation": "instructblip", "qformer_text": True},
    tokens_per_frame=True,
)
FAMILIES = {
    "videochat2": FamilySpec("qtablate.model.videochat2:VideoChat2Model", _DEFAULTS),
    # the published weights, which transformers loads with either class: https://huggingface.co/Salesforce
    "instructblip": _INSTRUCTBLIP,
    "instructblipvideo": _INSTRUCTBLIP,
    "assembled": FamilySpec(
        "qtablate.model.assembled_model:AssembledModel", _DEFAULTS | {"learning_rate": 1e-4, "conversation": "plain"}
    ),
}
"""By model_type. A new family is one row here and one file (video_lm.py says what its model offers)."""


def visual_tokens(config: Mapping[str, Any], extra: int) -> int:
    """Count the visual tokens of a video, at `extra` extra query tokens."""
    return FAMILIES[config["model_type"]].visual_tokens(config, extra)


def check_frames(config: Mapping[str, Any], frames: int) -> None:
    """Refuse a number of frames per clip that a model cannot take.

    VideoChat2's positions are interpolated to any number of whole tubelets, InstructBLIP encodes frame by frame; an assembled
    model has a position for each of its own frames, and a tower that reads whole clips takes only its own number.

    Raises:
        ConfigError: what the model takes instead.
    """
    vision, own = config["vision_config"], config["num_frames"]
    if config["model_type"] == "assembled":
        if "num_frames" in vision and frames != own:
            raise ConfigError(f"--frames {frames}: this model's vision tower reads clips of {own} frames, and no others")
        if frames > own:
            raise ConfigError(f"--frames {frames}: this model has positions for {own} frames; use at most {own}")
    elif frames % (tubelet := vision.get("tubelet_size") or 1):
        raise ConfigError(f"--frames {frames}: this model's vision tower reads {tubelet} frames at once; use a multiple of it")


def model_directory(model: str) -> Path:
    """Return the folder of a model, checked for its files.

    Raises:
        ModelError: config.json, weights or tokenizer are missing.
    """
    path = NANO if model == "nano" else Path(model)
    missing = [] if (path / "config.json").is_file() else ["config.json"]
    missing += [] if any((path / name).is_file() for name in (WEIGHTS, INDEX)) else [WEIGHTS]
    missing += [] if any((path / name).is_file() for name in TOKENIZERS) else [TOKENIZERS[0]]
    if missing:
        raise ModelError(
            f"'{model}' is not a model directory: expected config.json, {WEIGHTS}, tokenizer.json, "
            f"missing {', '.join(missing)}. "
            "Use 'nano', or a directory that qtablate convert, qtablate assemble or save_pretrained wrote."
        )
    return path


def read_config(model: str) -> dict[str, Any]:
    """Read config.json and fill in its family's defaults.

    Raises:
        ModelError: config.json is not JSON, names an unknown family, or holds a value of a wrong type.
    """
    try:
        values = json.loads((model_directory(model) / "config.json").read_text())
    except ValueError as error:
        raise ModelError(f"{model}/config.json is not JSON: {error}") from None
    family = values.get("model_type") if isinstance(values, dict) else None
    if family not in FAMILIES:
        raise ModelError(f"unknown model family '{family}' in {model}/config.json; known: {', '.join(FAMILIES)}")
    defaults = FAMILIES[family].defaults
    config: dict[str, Any] = {**defaults, **values}
    vision = config.get("vision_config")
    if not isinstance(vision, dict) or not isinstance(vision.get("image_size"), int):
        raise ModelError(f"{model}/config.json: expected 'vision_config' with 'image_size', an integer number of pixels")
    for name, default in defaults.items():
        types = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(config[name], types):
            raise ModelError(f"{model}/config.json: '{name}' should be of the type of {default!r}, is {config[name]!r:.40}")
    if FAMILIES[family].tokens_per_frame:
        config |= read_preprocessing(model_directory(model))
    return config


def read_preprocessing(folder: Path) -> dict[str, list[float]]:
    """Read `image_mean` and `image_std` of a transformers directory; empty where it has none, which means CLIP's.

    Raises:
        ModelError: a preprocessor file cannot be read.
    """
    for name in PREPROCESSORS:
        if not (folder / name).is_file():
            continue
        with unreadable_as_model_error(str(folder / name)):
            values = json.loads((folder / name).read_text())
            for section in (values, values.get("video_processor") or {}, values.get("image_processor") or {}):
                if isinstance(section.get("image_mean"), list):
                    return {key: section[key] for key in ("image_mean", "image_std")}
    return {}


def weight_files(folder: Path) -> list[Path]:
    """List the weight files of a directory.

    Raises:
        ModelError: the index is not readable, or names a file that is not in the folder.
    """
    index = folder / INDEX
    if not index.is_file():
        return [folder / WEIGHTS]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index} is no index of weights") from None
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{index} names {name}, which is not in that folder")
    return [folder / name for name in names]


def count_parameters(model: str) -> dict[str, int]:
    """Count the parameters in a model's files by part, the first word of their names: `vision`, `qformer`, `language_model` ...

    Raises:
        ModelError: a weight file cannot be read.
    """
    counts: Counter[str] = Counter()
    for path in weight_files(model_directory(model)):
        with unreadable_as_model_error(str(path)), safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  # it has no other way to be iterated
                counts[name.partition(".")[0]] += math.prod(file.get_slice(name).get_shape())
    return dict(counts)


def fingerprint(model: str) -> str:
    """Hash the contents of all files that a model's results depend on.

    Raises:
        ModelError: a weight file is truncated or not safetensors.
    """
    digest = hashlib.sha256()
    folder = model_directory(model)
    weights = weight_files(folder)
    for path in weights:
        try:
            with safe_open(path, framework="np"):
                pass  # checks the header, and that the file is as long as it says
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}; download or write it again") from None
    inner = [file for name in (QFORMER_TOKENIZER, ADAPTER) for file in sorted((folder / name).glob("*")) if file.is_file()]
    others = [folder / name for name in (*TOKENIZER_FILES, *PREPROCESSORS) if (folder / name).is_file()]
    for path in (folder / "config.json", *weights, *others, *inner):
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def base_scores(model: str, benchmark: str) -> dict[str, float]:
    """Read the base model's accuracy per task on a benchmark, measured before any ablation.

    Args:
        benchmark: the benchmark's fingerprint.

    Returns:
        Accuracy by task; empty where the directory holds no scores of this benchmark.
    """
    try:
        note = json.loads((model_directory(model) / "scores.json").read_text())
        return dict(note["accuracy"]) if note["benchmark"] == benchmark else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@contextmanager
def unreadable_as_model_error(what: str) -> Iterator[None]:
    """Turn what transformers and its readers raise on broken files into one ModelError that names `what`.

    Raises:
        ModelError: the block raised one of these errors.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{what} cannot be read: {type(error).__name__}: {first:.300}") from None
