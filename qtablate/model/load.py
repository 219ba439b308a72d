"""Model directories: config.json, weights, tokenizer files. `nano` names the one in the package.

Families are told apart by config.json's `model_type`; everything here but `load` works without torch.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from qtablate.errors import ModelError

if TYPE_CHECKING:  # reading a fingerprint or a config must not cost the import of torch
    from qtablate.model.encode import Encoder, Reader
    from qtablate.model.family import Family

NANO = Path(__file__).parents[1] / "nano" / "assets"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
"""Names the parts where the weights are split over several files."""
QFORMER_TOKENIZER = "qformer_tokenizer"
PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
ADAPTER = "adapter"
"""Folder of a LoRA of the language model, as peft writes it."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Any one of these makes a tokenizer."""
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
class Known:
    """A family: the class that loads it, and what its config.json leaves unsaid."""

    model: str
    """module:class"""
    defaults: Mapping[str, Any]
    a_frame: bool = False
    """Whether each frame has its own visual tokens."""

    def visual_tokens(self, config: Mapping[str, Any], extra: int) -> int:
        """Of a video of config's number of frames, with so many extra query tokens."""
        return int((config["num_query_tokens"] + extra) * (config["num_frames"] if self.a_frame else 1))


def visual_tokens(config: Mapping[str, Any], extra: int) -> int:
    """Of a video, with so many extra query tokens."""
    return FAMILIES[config["model_type"]].visual_tokens(config, extra)


_DEFAULTS: dict[str, Any] = {
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
INSTRUCTBLIP = Known(
    "qtablate.model.instructblip:InstructBlipVideoModel",
    _DEFAULTS | {"num_frames": 4, "learning_rate": 1e-5, "conversation": "instructblip", "qformer_text": True},
    a_frame=True,
)
FAMILIES = {
    "videochat2": Known("qtablate.model.videochat2:VideoChat2Model", _DEFAULTS),
    # the published weights, which transformers loads with either class: https://huggingface.co/Salesforce
    "instructblip": INSTRUCTBLIP,
    "instructblipvideo": INSTRUCTBLIP,
    "assembled": Known("qtablate.model.assembled:AssembledModel", _DEFAULTS | {"learning_rate": 1e-4, "conversation": "plain"}),
}
"""By model_type. A new family is one row here and one file (family.py says what it offers)."""


def directory(model: str) -> Path:
    """The folder of a model. Raises ModelError when it is not one."""
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
    """config.json with what its family assumes where it is silent, without torch."""
    try:
        found = json.loads((directory(model) / "config.json").read_text())
    except ValueError as error:
        raise ModelError(f"{model}/config.json is not JSON: {error}") from None
    family = found.get("model_type") if isinstance(found, dict) else None
    if family not in FAMILIES:
        raise ModelError(f"unknown model family '{family}' in {model}/config.json; known: {', '.join(FAMILIES)}")
    defaults = FAMILIES[family].defaults
    config: dict[str, Any] = {**defaults, **found}
    vision = config.get("vision_config")
    if not isinstance(vision, dict) or not isinstance(vision.get("image_size"), int):
        raise ModelError(f"{model}/config.json: expected 'vision_config' with 'image_size', a whole number of pixels")
    for name, default in defaults.items():
        kinds = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(config[name], kinds):
            raise ModelError(f"{model}/config.json: '{name}' should be of the kind of {default!r}, is {config[name]!r:.40}")
    if FAMILIES[family].a_frame:
        config |= read_preprocessing(directory(model))
    return config


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Mean and deviation of a transformers directory's pixels; empty where it does not say, which means CLIP's."""
    for name in PREPROCESSORS:
        if not (folder / name).is_file():
            continue
        with reading(str(folder / name)):
            whole = json.loads((folder / name).read_text())
            for found in (whole, whole.get("video_processor") or {}, whole.get("image_processor") or {}):
                if isinstance(found.get("image_mean"), list):
                    return {key: found[key] for key in ("image_mean", "image_std")}
    return {}


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a directory. Raises ModelError when one that its index names is missing or leads out."""
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


def fingerprint(model: str) -> str:
    """Of the files' contents. Raises ModelError when a file of weights is cut or no safetensors."""
    digest = hashlib.sha256()
    folder = directory(model)
    weights = weight_files(folder)
    for path in weights:
        try:
            with safe_open(path, framework="np"):
                pass  # its header, and that the file is as long as it says
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}; fetch or write it again") from None
    inner = [file for name in (QFORMER_TOKENIZER, ADAPTER) for file in sorted((folder / name).glob("*")) if file.is_file()]
    others = [folder / name for name in (*TOKENIZER_FILES, *PREPROCESSORS) if (folder / name).is_file()]
    for path in (folder / "config.json", *weights, *others, *inner):
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def base_scores(model: str, benchmark: str) -> dict[str, float]:
    """Accuracy by task that the base had on the benchmark of this fingerprint, before any ablation, where its directory
    says so; else empty."""
    try:
        note = json.loads((directory(model) / "scores.json").read_text())
        return dict(note["accuracy"]) if note["benchmark"] == benchmark else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def load(model: str, dtype: str = "float32") -> tuple["Family", "Encoder"]:
    """The model and its encoder, on the CPU, from safetensors only; an adapter is added to its language model. `dtype` is
    that of vision tower and language model; bridge, queries and adapter are fp32."""
    from qtablate.model.adapter import add_adapter
    from qtablate.model.encode import Encoder
    from qtablate.prompts.segments import formats
    from qtablate.prompts.videochat2 import Whole

    path, config, forms = directory(model), read_config(model), formats()
    if config["conversation"] not in forms:
        raise ModelError(f"unknown conversation format '{config['conversation']}' in {model}; known: {', '.join(forms)}")
    if config["tell_seconds"] and not isinstance(forms[config["conversation"]], Whole):
        able = ", ".join(name for name, form in forms.items() if isinstance(form, Whole))
        raise ModelError(f"{model}/config.json: 'tell_seconds' wants one of the conversations {able}")
    module, _, name = FAMILIES[config["model_type"]].model.partition(":")
    family: Any = getattr(import_module(module), name)
    quiet()
    found, info = family.from_pretrained(
        path, use_safetensors=True, output_loading_info=True, local_files_only=True, dtype=dtype
    )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if wrong:
        raise ModelError(f"the weights in {model} do not fit its config.json: {json.dumps(wrong)[:800]}")
    for key in (*FAMILIES[config["model_type"]].defaults, "image_mean", "image_std"):
        setattr(found.config, key, config.get(key))  # what the family assumes is said by the config from here on
    if dtype != "float32":
        _exact(found, path)
    if (path / ADAPTER).is_dir():
        add_adapter(found, path / ADAPTER)
    encoder = Encoder(
        tokenizer(path),
        forms[config["conversation"]],
        _reader(path, config),
        config["bos_as_value"],
        config["supervise_end"],
        config["tell_seconds"],
    )
    return cast("Family", found), encoder


def _exact(model: "Family", folder: Path) -> None:
    """Give bridge and queries their values in fp32, from the files: from_pretrained casts all parts alike."""
    wanted = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.partition(".")[0] in (*model.bridge, "query_tokens", "extra_query_tokens")
    }
    for parameter in wanted.values():
        parameter.data = parameter.data.float()
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in wanted.keys() & set(file.keys()):
                wanted[name].data.copy_(file.get_tensor(name))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns what transformers and its readers raise on broken files into one message. Raises ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{what} cannot be read: {type(error).__name__}: {first:.300}") from None


def quiet() -> None:
    """transformers shows neither progress nor warnings: what matters is checked here and said in our own words."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()


def tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder: tokenizer.json as it is, else what its class makes of the older files."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    with reading(f"the tokenizer in {folder}"):
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _reader(path: Path, config: Mapping[str, Any]) -> "Reader | None":
    """What the Q-Former's text is read with. Raises ModelError where it is needed and not there."""
    if not config["qformer_text"]:
        return None
    from qtablate.model.encode import Reader

    folder = path / QFORMER_TOKENIZER
    if not folder.is_dir():
        raise ModelError(f"{path}: its Q-Former reads text (qformer_text), so {QFORMER_TOKENIZER}/ is needed there")
    places = config["qformer_config"].get("max_position_embeddings", 512)
    return Reader(tokenizer(folder), min(config["max_txt_len"], places), config["qformer_padded_left"])


def start_anew(model: "Family", seed: int) -> list[str]:
    """Give the base's `fresh_parts` initial values from the seed; the parts' names are returned."""
    from qtablate.model.initialise import initialise, normal

    fresh = list(getattr(model.config, "fresh_parts", None) or [])
    known = (*model.bridge, "query_tokens")
    for part in fresh:
        if part not in known:
            raise ModelError(f"unknown part '{part}' in fresh_parts of the model's config; known: {', '.join(known)}")
        if part == "query_tokens":
            table = model.query_tokens
            table.data = normal(tuple(table.shape), model.config.query_init_std, "init", seed, part).to(table.dtype)
        else:
            initialise(getattr(model, part), seed, part)
    return fresh
