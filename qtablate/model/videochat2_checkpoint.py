"""VideoChat2's checkpoints: from the names of its own code to those of the stock modules in videochat2.py.

A file holds only what its stage trained, so several are read together, in the order of their stages. Source of the names:
OpenGVLab/Ask-Anything video_chat2 at 4dd8210 (facts only); a name that is neither known nor ignorable is an error.
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
"""Pattern of a full name in VideoChat2 -> name here; the first match counts."""
_VARIANT = re.compile(r"(mistral|llama|phi)_(?:proj|model)\..*")
_QKV = re.compile(rf"{_VISION}blocks\.{_LAYER}\.attn\.qkv\.weight")
_ADAPTER = re.compile(r"(?:mistral|llama|phi)_model\.(base_model\.model\..+\.lora_[AB]\.default\.weight)")
_IGNORABLE = re.compile(r".*\.position_ids|qformer\.cls\..*|vision_proj\..*|text_proj\..*|itm_head\..*|temp|vision_temp_embed")
"""Heads of stage 1's own losses, and buffers: no module here has them."""
TEXT_ONLY = re.compile(
    r"qformer\.embeddings\.(word|position)_embeddings\..*|qformer\.encoder\.layer\.\d+\.(intermediate|output)\..*"
)
"""Q-Former weights that only text passes; files of stage 2 do not hold them."""


@dataclass(frozen=True, slots=True)
class VideoChat2Checkpoint:
    """Weights of one or several files, translated."""

    weights: dict[str, Tensor]
    """By the names of VideoChat2Model."""
    adapter: dict[str, Tensor]
    """LoRA of the language model, by peft's names."""
    ignored: tuple[str, ...]
    """Names in the files that no module here needs."""
    variant: str
    """`mistral`, `vicuna` or `phi`, by the names of projection and adapter; empty where there are neither."""
    files: tuple[str, ...] = ()
    """One sentence per file: how many names it has, and how many replace those of earlier files."""


def read_checkpoints(paths: Sequence[Path]) -> VideoChat2Checkpoint:
    """Read and translate files in the order of their stages; later files override earlier ones. Runs no code from a file.

    Raises:
        ModelError: a file is not a file of weights, has unknown names, or is of an earlier stage than the one before.
    """
    state: dict[str, Tensor] = {}
    summaries, last_stage = [], -1
    for path in paths:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "does not exist"
            raise ModelError(f"{path} {problem}; expected one of VideoChat2's .pth files")
    for path in paths:
        tensors = _read_state(path)
        stage = 2 if any(".lora_" in name for name in tensors) else int(any(_VARIANT.fullmatch(name) for name in tensors))
        if stage < last_stage:
            raise ModelError(
                f"{path.name} is of an earlier stage than the file before it (by its projection and LoRA): later files override"
                " earlier ones, so give them in the order of their stages"
            )
        replaced = len(tensors.keys() & state.keys())
        summaries.append(f"{path.name}: {len(tensors)} names, {replaced} of them instead of an earlier file's")
        state |= tensors
        last_stage = stage
    return replace(translate(state), files=tuple(summaries))


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise exceptions of any class on foreign files
        raise ModelError(f"{path} is no file of weights that can be read safely: {_first_line(error)}") from None
    for wrapper in ("model", "module"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no weights: expected tensors by name, at the top, under 'model' or under 'module'")
    return state


def translate(state: Mapping[str, Tensor]) -> VideoChat2Checkpoint:
    """Translate tensors from VideoChat2's names.

    Raises:
        ModelError: names that are neither known nor ignorable, all listed; or names of several variants.
    """
    weights: dict[str, Tensor] = {}
    adapter: dict[str, Tensor] = {}
    ignored, unknown, variants = [], [], set()
    for name, value in state.items():
        if match := _VARIANT.fullmatch(name):
            variants.add(match[1])
        if _IGNORABLE.fullmatch(name):
            ignored.append(name)
        elif match := _QKV.fullmatch(name):
            attention = f"vision.encoder.layer.{match['n']}.attention.attention"
            for part, matrix in zip(("query", "key", "value"), value.chunk(3), strict=True):
                weights[f"{attention}.{part}.weight"] = matrix
        elif match := _ADAPTER.fullmatch(name):
            adapter[match[1]] = value
        elif new_name := _translate_name(name):
            weights[new_name] = value
        else:
            unknown.append(name)
    if unknown:
        raise ModelError(f"{len(unknown)} names are not VideoChat2's: {', '.join(unknown[:20])}")
    if len(variants) > 1:
        raise ModelError(f"these files are of several variants of VideoChat2: {', '.join(sorted(variants))}")
    variant = "".join(variants).replace("llama", "vicuna")
    return VideoChat2Checkpoint(weights, adapter, tuple(ignored), variant)


def _translate_name(name: str) -> str:
    for pattern, new_name in _RULES:
        if match := re.fullmatch(pattern, name):
            return match.expand(new_name)
    return ""


def lora_pairs(language: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """Return the names of LoRA's A and B for each matrix of the language model that it adapts.

    Raises:
        ModelError: half of a pair is missing, or a matrix that the adapter needs, or shapes do not fit.
    """
    pairs = {}
    for a in adapter:
        if ".lora_A." not in a:
            continue
        matrix = a.removeprefix("base_model.model.").replace(".lora_A.default.weight", ".weight")
        b = a.replace(".lora_A.", ".lora_B.")
        if b not in adapter or matrix not in language:
            raise ModelError(f"the adapter's {a} has no {'other half' if b not in adapter else f'{matrix} to go to'}")
        shape = (len(adapter[b]), adapter[a].shape[-1])
        if tuple(language[matrix].shape) != shape:
            raise ModelError(f"the adapter's {a} makes {shape}, {matrix} is {tuple(language[matrix].shape)}")
        pairs[matrix] = (a, b)
    if 2 * len(pairs) != len(adapter):
        raise ModelError("the adapter holds halves without their others")
    return pairs


def merge_lora(language: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Add a LoRA to a language model's weights: W + scale * B A, scale = alpha / r (Hu et al. 2021, arXiv 2106.09685).

    Each matrix is summed in float32 at least and keeps its own dtype.

    Raises:
        ModelError: the adapter does not fit the language model.
    """
    merged = dict(language)
    for matrix, (a, b) in lora_pairs(language, adapter).items():
        own = merged[matrix]
        wide = torch.promote_types(own.dtype, torch.float32)
        merged[matrix] = (own.to(wide) + scale * (adapter[b].to(wide) @ adapter[a].to(wide))).to(own.dtype)
    return merged


def missing_names(needed: Iterable[str], present: Iterable[str], text: bool) -> list[str]:
    """Return needed names that are not present, without those that only a text-reading Q-Former needs unless `text`."""
    known = set(present)
    return [name for name in needed if name not in known and (text or not TEXT_ONLY.fullmatch(name))]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
