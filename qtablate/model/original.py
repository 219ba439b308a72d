"""Weights of the original VideoChat2 under its own names -> the names of this container's stock parts.

A file holds only what its stage trained, so several are given together, in the order of their stages. Source of the
names: OpenGVLab/Ask-Anything video_chat2 at 4dd8210 (facts only); every name that is neither known nor rightly left out
is an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from qtablate.errors import ModelError

_LAYER = r"(?P<n>\d+)"
_VISION, _QFORMER = r"vision_encoder\.encoder\.", r"qformer\.bert\."
_RULES: tuple[tuple[str, str], ...] = (
    (r"(query_tokens|extra_query_tokens)", r"\1"),
    (rf"{_VISION}patch_embed\.proj\.(\w+)", r"vision.embeddings.patch_embeddings.projection.\1"),
    (rf"{_VISION}blocks\.{_LAYER}\.norm1\.(\w+)", r"vision.encoder.layer.\g<n>.layernorm_before.\2"),
    (rf"{_VISION}blocks\.{_LAYER}\.norm2\.(\w+)", r"vision.encoder.layer.\g<n>.layernorm_after.\2"),
    (rf"{_VISION}blocks\.{_LAYER}\.attn\.q_bias", r"vision.encoder.layer.\g<n>.attention.attention.query.bias"),
    (rf"{_VISION}blocks\.{_LAYER}\.attn\.v_bias", r"vision.encoder.layer.\g<n>.attention.attention.value.bias"),
    (rf"{_VISION}blocks\.{_LAYER}\.attn\.proj\.(\w+)", r"vision.encoder.layer.\g<n>.attention.output.dense.\2"),
    (rf"{_VISION}blocks\.{_LAYER}\.mlp\.fc1\.(\w+)", r"vision.encoder.layer.\g<n>.intermediate.dense.\2"),
    (rf"{_VISION}blocks\.{_LAYER}\.mlp\.fc2\.(\w+)", r"vision.encoder.layer.\g<n>.output.dense.\2"),
    (r"vision_layernorm\.(\w+)", r"vision.layernorm.\1"),
    (rf"{_QFORMER}embeddings\.LayerNorm\.(\w+)", r"qformer.embeddings.layernorm.\1"),
    (rf"{_QFORMER}embeddings\.(word_embeddings|position_embeddings)\.(\w+)", r"qformer.embeddings.\1.\2"),
    (
        rf"{_QFORMER}encoder\.layer\.{_LAYER}\.(attention|crossattention)\.self\.(.+)",
        r"qformer.encoder.layer.\g<n>.\2.attention.\3",
    ),
    (rf"{_QFORMER}encoder\.layer\.{_LAYER}\.(.+)", r"qformer.encoder.layer.\g<n>.\2"),
    (r"(?:mistral|llama|phi)_proj\.(\w+)", r"projection.\1"),
)
"""Whole original name -> stock name, the first that fits."""
_VARIANT = re.compile(r"(mistral|llama|phi)_(?:proj|model)\..*")
_QKV = re.compile(rf"{_VISION}blocks\.{_LAYER}\.attn\.qkv\.weight")
_ADAPTER = re.compile(r"(?:mistral|llama|phi)_model\.(base_model\.model\..+\.lora_[AB]\.default\.weight)")
_LEFT_OUT = re.compile(r".*\.position_ids|qformer\.cls\..*|vision_proj\..*|text_proj\..*|itm_head\..*|temp|vision_temp_embed")
"""What stage 1 has for its own losses, and buffers."""
WITHOUT_TEXT = re.compile(
    r"qformer\.embeddings\.(word|position)_embeddings\..*|qformer\.encoder\.layer\.\d+\.(intermediate|output)\..*"
)
"""What a Q-Former has only for text, and files of stage 2 do not hold."""


@dataclass(frozen=True, slots=True)
class Original:
    """One or several files, translated."""

    weights: dict[str, Tensor]
    """By the container's names."""
    adapter: dict[str, Tensor]
    """LoRA of the language model, by peft's names."""
    left_out: tuple[str, ...]
    """Names that rightly have no place here."""
    variant: str
    """`mistral`, `vicuna` or `phi`, by the names of projection and adapter; empty where there are neither."""
    files: tuple[str, ...] = ()
    """What each file gave, in words."""


def read(paths: Sequence[Path]) -> Original:
    """Translate files in the order of their stages, a later one winning over an earlier one. Nothing in a file is ever run.

    Raises:
        ModelError: a file that is no file of weights, names that are not known, or files in another order.
    """
    state: dict[str, Tensor] = {}
    given, last = [], -1
    for path in paths:
        if not path.is_file():
            there = "is a folder" if path.is_dir() else "does not exist"
            raise ModelError(f"{path} {there}; expected one of VideoChat2's .pth files")
    for path in paths:
        own = _state(path)
        stage = 2 if any(".lora_" in name for name in own) else int(any(_VARIANT.fullmatch(name) for name in own))
        if stage < last:
            raise ModelError(
                f"{path.name} is of an earlier stage than the file before it (by its projection and LoRA): a later file wins, "
                "so give them in the order of their stages"
            )
        given.append(f"{path.name}: {len(own)} names, {len(own.keys() & state.keys())} of them instead of an earlier file's")
        state |= own
        last = stage
    return replace(translate(state), files=tuple(given))


def _state(path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise whatever they like on foreign files
        raise ModelError(f"{path} is no file of weights that can be read safely: {_first_line(error)}") from None
    for wrapper in ("model", "module"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no weights: expected tensors by name, at the top, under 'model' or under 'module'")
    return found


def translate(state: Mapping[str, Tensor]) -> Original:
    """Raises ModelError that lists every name which is neither known nor rightly left out."""
    weights: dict[str, Tensor] = {}
    adapter: dict[str, Tensor] = {}
    left_out, unknown, variants = [], [], set()
    for name, value in state.items():
        if found := _VARIANT.fullmatch(name):
            variants.add(found[1])
        if _LEFT_OUT.fullmatch(name):
            left_out.append(name)
        elif found := _QKV.fullmatch(name):
            into = f"vision.encoder.layer.{found['n']}.attention.attention"
            weights |= {
                f"{into}.{part}.weight": one for part, one in zip(("query", "key", "value"), value.chunk(3), strict=True)
            }
        elif found := _ADAPTER.fullmatch(name):
            adapter[found[1]] = value
        elif new := _renamed(name):
            weights[new] = value
        else:
            unknown.append(name)
    if unknown:
        raise ModelError(f"{len(unknown)} names are not VideoChat2's: {', '.join(unknown[:20])}")
    if len(variants) > 1:
        raise ModelError(f"these files are of several variants of VideoChat2: {', '.join(sorted(variants))}")
    variant = "".join(variants).replace("llama", "vicuna")
    return Original(weights, adapter, tuple(left_out), variant)


def _renamed(name: str) -> str:
    for pattern, into in _RULES:
        if found := re.fullmatch(pattern, name):
            return found.expand(into)
    return ""


def pairs(language: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """Of each matrix that a LoRA belongs to, the names of its A and B.

    Raises:
        ModelError: half of a pair is missing, or a matrix that the adapter belongs to.
    """
    out = {}
    for name in adapter:
        if ".lora_A." not in name:
            continue
        into = name.removeprefix("base_model.model.").replace(".lora_A.default.weight", ".weight")
        other = name.replace(".lora_A.", ".lora_B.")
        if other not in adapter or into not in language:
            raise ModelError(f"the adapter's {name} has no {'other half' if other not in adapter else f'{into} to go to'}")
        shape = (len(adapter[other]), adapter[name].shape[-1])
        if tuple(language[into].shape) != shape:
            raise ModelError(f"the adapter's {name} makes {shape}, {into} is {tuple(language[into].shape)}")
        out[into] = (name, other)
    if 2 * len(out) != len(adapter):
        raise ModelError("the adapter holds halves without their others")
    return out


def merged(language: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """A language model's weights with LoRA added: W + scale * B A, scale = alpha / r (Hu et al. 2021, arXiv 2106.09685). A
    matrix at a time, summed in fp32 at least and kept in its own precision. Raises ModelError where `pairs` does."""
    out = dict(language)
    for into, (a, b) in pairs(language, adapter).items():
        own = out[into]
        wide = torch.promote_types(own.dtype, torch.float32)
        out[into] = (own.to(wide) + scale * (adapter[b].to(wide) @ adapter[a].to(wide))).to(own.dtype)
    return out


def missing(names: Iterable[str], have: Iterable[str], text: bool) -> list[str]:
    """Names of the container that are not there, but for what only a Q-Former with text needs when this one has none."""
    held = set(have)
    return [name for name in names if name not in held and (text or not WITHOUT_TEXT.fullmatch(name))]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
