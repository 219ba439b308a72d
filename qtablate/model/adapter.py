"""LoRA of the language model, through peft (Hu et al. 2021, arXiv 2106.09685).

peft puts its layers into the language model in place, so everything else goes on calling it as before. On disk the adapter
has peft's own format, which `PeftModel.from_pretrained` reads too.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qtablate.errors import ModelError
from qtablate.files import atomic_path, write_text
from qtablate.model.initialize import normal
from qtablate.model.video_lm import VideoLM

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
"""Layers that VideoChat2 adapts (videochat2_it_mistral.py); of a language model with other names, those of these it has."""
ALPHA_TO_RANK = 2.0  # VideoChat2's alpha 32 at rank 16
DROPOUT = 0.1  # VideoChat2's
_NAME = "default"
_PREFIX, _FILE, _CONFIG = "base_model.model.", "adapter_model.safetensors", "adapter_config.json"
_REQUIRED_OPTIONS = ("r", "lora_alpha", "target_modules")  # peft would assume its defaults for a file without them
_HONORED_OPTIONS = {*_REQUIRED_OPTIONS, "lora_dropout", "fan_in_fan_out"}
_METADATA = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
}
_WEIGHT_INITS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that concern initial values of A and B alone; others (pissa, olora ...) change base weights."""


def lora_targets(language_model: nn.Module) -> list[str]:
    """Return those of TARGETS that a language model has, without a head tied to the embedding: merged, it would change both.

    Raises:
        ModelError: it has none.
    """
    linear = {name.rpartition(".")[2] for name, part in language_model.named_modules() if isinstance(part, nn.Linear)}
    tied = getattr(getattr(language_model, "config", None), "tie_word_embeddings", False)
    targets = [name for name in TARGETS if name in linear and not (tied and name == "lm_head")]
    if not targets:
        raise ModelError(f"LoRA goes to layers named {', '.join(TARGETS)}; this language model has {', '.join(sorted(linear))}")
    return targets


def new_adapter(model: VideoLM, rank: int, seed: int) -> None:
    """Add a LoRA that changes nothing yet: A drawn from the seed at peft's own scale, B zero.

    A model that has an adapter of this rank keeps it.

    Raises:
        ModelError: the model has an adapter of another rank.
    """
    if has_adapter(model):
        present = lora_ranks(adapter_weights(model))
        if present != [rank]:
            raise ModelError(f"the model has an adapter of rank {', '.join(map(str, present))}; --lora {rank} asks for another")
        return
    targets = lora_targets(model.language_model)
    config = LoraConfig(r=rank, lora_alpha=ALPHA_TO_RANK * rank, lora_dropout=DROPOUT, target_modules=targets)  # type: ignore[arg-type]
    inject_adapter_in_model(config, model.language_model, _NAME)
    with torch.no_grad():
        for name, parameter in model.language_model.named_parameters():
            if ".lora_A." in name:
                std = 1 / math.sqrt(3 * parameter.shape[1])
                parameter.data = normal(tuple(parameter.shape), std, "init", seed, "lora", name)
            elif ".lora_B." in name:
                parameter.data = torch.zeros(parameter.shape)


def load_adapter(model: VideoLM, folder: Path) -> None:
    """Add the LoRA of a folder to the language model, in float32.

    Raises:
        ModelError: the folder holds no LoRA, one with options that cannot be honored, or one of another language model.
    """
    try:
        config = _read_config(folder)
        # not peft's load_peft_weights: it falls back to pickled files, and to the Hub where there are none
        weights = {name.removeprefix(_PREFIX): value.float() for name, value in load_file(folder / _FILE).items()}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} is no LoRA that can be read: {type(error).__name__}: {error}") from None
    language_model = model.language_model
    inject_adapter_in_model(config, language_model, _NAME)
    for parameter in adapter_weights(model).values():
        parameter.data = parameter.data.float()
    # peft's loader below skips names that are missing, so names are compared here
    expected = get_peft_model_state_dict(language_model, adapter_name=_NAME, save_embedding_layers=False)
    if expected.keys() != weights.keys():
        odd = sorted(expected.keys() ^ weights.keys())
        raise ModelError(f"{folder} does not fit the language model: {len(odd)} names are in one alone: {', '.join(odd[:5])}")
    for name, value in expected.items():
        if value.shape != weights[name].shape:
            raise ModelError(f"{folder}: {name} is {tuple(weights[name].shape)}, expected {tuple(value.shape)}")
    set_peft_model_state_dict(language_model, weights, _NAME)


def _read_config(folder: Path) -> LoraConfig:
    """Read peft's config of an adapter.

    Raises:
        ModelError: an option is set that is not honored here; unknown ones of later peft versions included.
        KeyError, OSError, TypeError, ValueError: the file is missing or broken.
    """
    options = LoraConfig.from_json_file(str(folder / _CONFIG))
    for name in _REQUIRED_OPTIONS:
        if options[name] is None:
            raise ValueError(f"{name} is not given")
    if options.get("peft_type", "LORA") != "LORA":
        raise ModelError(f"{folder}: a {options['peft_type']} adapter is not supported; merge it into the weights first")
    defaults = {field.name: getattr(LoraConfig(), field.name, None) for field in dataclasses.fields(LoraConfig)}
    refused = [
        name
        for name, value in options.items()
        if value and value != defaults.get(name) and name not in {*_HONORED_OPTIONS, *_METADATA, "init_lora_weights"}
    ]
    refused += ["init_lora_weights"] if options.get("init_lora_weights", True) not in _WEIGHT_INITS else []
    refused += [] if isinstance(options["target_modules"], list) else ["target_modules as a text"]
    if refused:
        raise ModelError(
            f"{folder}: a LoRA with {', '.join(refused)} is not supported; merge it into the weights with peft first"
        )
    config: LoraConfig = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False  # it would freeze the adapter; choose_trainable decides that
    return config


def disable_lora_dropout(model: VideoLM) -> None:
    """Switch off the dropout of an adapter that is not trained: it is a part of the frozen language model."""
    for name, layer in model.language_model.named_modules():
        if ".lora_dropout." in name and isinstance(layer, nn.Dropout):
            layer.p = 0.0


def has_adapter(model: VideoLM) -> bool:
    """Tell whether the language model has a LoRA."""
    return bool(adapter_weights(model))


def adapter_weights(model: VideoLM) -> dict[str, Tensor]:
    """Return the LoRA's parameters by their names in the language model."""
    return {name: value for name, value in model.language_model.named_parameters() if ".lora_" in name}


def lora_ranks(weights: Mapping[str, Tensor]) -> list[int]:
    """Return the different ranks of a LoRA's matrices; a single number for all adapters that are made here."""
    return sorted({len(value) for name, value in weights.items() if ".lora_A." in name})


def save_adapter(folder: Path, weights: Mapping[str, Tensor], alpha: float, dropout: float) -> None:
    """Write a LoRA in peft's format.

    Args:
        weights: tensors by peft's names, with or without the adapter's name in them.

    Raises:
        ModelError: the matrices are not of one rank.
    """
    plain = {name.replace(f".{_NAME}.weight", ".weight"): value.contiguous() for name, value in weights.items()}
    ranks = lora_ranks(plain)
    if len(ranks) != 1:
        raise ModelError(f"the adapter has ranks {ranks}; one is expected")
    modules = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in plain})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": ranks[0],
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": modules,
        "bias": "none",
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / _FILE) as path:
        save_file(plain, path)
    write_text(folder / _CONFIG, json.dumps(config, indent=1) + "\n")
