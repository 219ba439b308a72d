"""LoRA of the language model, through peft (Hu et al. 2021, arXiv 2106.09685).

peft puts its layers into the language model in place, so that everything else goes on calling it as before. In a folder
the adapter has peft's own form, which `PeftModel.from_pretrained` reads too.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qtablate.errors import ModelError
from qtablate.files import aside, write_text
from qtablate.model.family import Family
from qtablate.model.initialise import normal

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
"""The original's (videochat2_it_mistral.py). Where a language model has other names, those of these that it has."""
ALPHA_TO_RANK = 2.0  # the original's alpha 32 at rank 16
DROPOUT = 0.1
_NAME = "default"
_UNREAD = (
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "lora_bias",
    "exclude_modules",
    "target_parameters",
)
"""What changes a LoRA's numbers and is not read here: an adapter that has it is refused."""
_PREFIX, _FILE, _CONFIG = "base_model.model.", "adapter_model.safetensors", "adapter_config.json"


def targets(language_model: nn.Module) -> list[str]:
    """Which of TARGETS a language model has, without a head that is its embedding too: merged, it would change both.

    Raises:
        ModelError: it has none.
    """
    linear = {name.rpartition(".")[2] for name, part in language_model.named_modules() if isinstance(part, nn.Linear)}
    tied = getattr(getattr(language_model, "config", None), "tie_word_embeddings", False)
    found = [name for name in TARGETS if name in linear and not (tied and name == "lm_head")]
    if not found:
        raise ModelError(f"LoRA goes to layers named {', '.join(TARGETS)}; this language model has {', '.join(sorted(linear))}")
    return found


def new_adapter(model: Family, rank: int, seed: int) -> None:
    """Add a LoRA that changes nothing yet: A from the seed at peft's own scale, B zero."""
    if has_adapter(model):
        held = ranks(adapter_weights(model))
        if held != [rank]:
            raise ModelError(f"the model has an adapter of rank {', '.join(map(str, held))}; --lora {rank} asks for another")
        return
    _inject(model, rank, ALPHA_TO_RANK * rank, DROPOUT, targets(model.language_model))
    with torch.no_grad():
        for name, parameter in model.language_model.named_parameters():
            if ".lora_A." in name:
                std = 1 / math.sqrt(3 * parameter.shape[1])
                parameter.data = normal(tuple(parameter.shape), std, "init", seed, "lora", name)
            elif ".lora_B." in name:
                parameter.data = torch.zeros(parameter.shape)


def add_adapter(model: Family, folder: Path) -> None:
    """Add the LoRA of a folder. Raises ModelError when it is none, or none of this language model."""
    try:
        config = json.loads((folder / _CONFIG).read_text())
        rank, alpha, names = int(config["r"]), float(config["lora_alpha"]), config["target_modules"]
        weights = load_file(folder / _FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} is no LoRA that can be read: {type(error).__name__}: {error}") from None
    unread = [name for name in _UNREAD if config.get(name)]
    unread += ["bias"] if config.get("bias", "none") != "none" else []
    unread += [] if isinstance(names, list) else ["target_modules as a text"]
    if unread:
        raise ModelError(
            f"{folder}: a LoRA with {', '.join(unread)} is not supported; merge it into the weights with peft first"
        )
    _inject(model, rank, alpha, float(config.get("lora_dropout", 0.0)), names)
    own = adapter_weights(model)
    given = {name.removeprefix(_PREFIX).replace(".weight", f".{_NAME}.weight"): value for name, value in weights.items()}
    if own.keys() != given.keys():
        odd = sorted(own.keys() ^ given.keys())
        raise ModelError(f"{folder} does not fit the language model: {len(odd)} names are in one alone: {', '.join(odd[:5])}")
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != given[name].shape:
                raise ModelError(f"{folder}: {name} is {tuple(given[name].shape)}, expected {tuple(parameter.shape)}")
            parameter.data = given[name].float()


def _inject(model: Family, rank: int, alpha: float, dropout: float, names: list[str]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    own = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)  # type: ignore[arg-type]
    inject_adapter_in_model(own, model.language_model, _NAME)


def silence(model: Family) -> None:
    """Take the dropout out of an adapter that is not trained: it is a part of the frozen language model."""
    for name, layer in model.language_model.named_modules():
        if ".lora_dropout." in name and isinstance(layer, nn.Dropout):
            layer.p = 0.0


def has_adapter(model: Family) -> bool:
    return bool(adapter_weights(model))


def adapter_weights(model: Family) -> dict[str, Tensor]:
    return {name: value for name, value in model.language_model.named_parameters() if ".lora_" in name}


def ranks(weights: Mapping[str, Tensor]) -> list[int]:
    """Of a LoRA's matrices; one number in all that are made here."""
    return sorted({len(value) for name, value in weights.items() if ".lora_A." in name})


def write_adapter(folder: Path, weights: Mapping[str, Tensor], alpha: float, dropout: float) -> None:
    """Write a LoRA in peft's form. `weights` has peft's names with or without its adapter's name."""
    plain = {name.replace(f".{_NAME}.weight", ".weight"): value.contiguous() for name, value in weights.items()}
    held = ranks(plain)
    if len(held) != 1:
        raise ModelError(f"the adapter has ranks {held}; one is expected")
    modules = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in plain})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": held[0],
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": modules,
        "bias": "none",
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with aside(folder / _FILE) as path:
        save_file(plain, path)
    write_text(folder / _CONFIG, json.dumps(config, indent=1) + "\n")
