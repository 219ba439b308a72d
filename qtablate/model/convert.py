"""Files of the original VideoChat2 and a language model's directory -> one model directory.

Each file holds only what its stage trained, so all stages are given together, in their order. Nothing is guessed in
silence: every name must be known and every one that the model needs must be there, or rightly absent (original.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qtablate.errors import ModelError
from qtablate.model.adapter import DROPOUT, ranks, write_adapter
from qtablate.model.load import ADAPTER, quiet, reading
from qtablate.model.original import WITHOUT_TEXT, Original, merged, missing, pairs, read
from qtablate.model.save import new_directory, write_qformer_tokenizer, write_tokenizer

VARIANTS = {"mistral": "mistral", "vicuna": "llama", "phi": "phi3"}
"""model_type of the language model by variant."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
_HEAD = 64  # width of a head in UMT-L and in BERT


@dataclass(frozen=True, slots=True)
class Settings:
    """What the files do not tell."""

    vision_heads: int | None = None
    """None: heads of 64, as UMT-L has."""
    qformer_heads: int | None = None
    image_size: int = 224
    num_frames: int = 8
    lora_alpha: float = 32.0
    merge: bool = False
    """Whether the adapter is added to the matrices it belongs to, or kept as one."""
    text: bool | None = None
    """Whether the Q-Former reads text; None: where the files have the weights for it."""
    dtype: str = "auto"
    """Of the language model: as in its directory, or float16, float32, bfloat16. The original loads it in float16."""
    fresh: tuple[str, ...] = ()
    """Parts that no file has yet and that every cell starts anew from its seed: `projection`, before stage 2."""
    quirks: bool = False
    """The original's training as it was: bos as a value, text padded on the left, drop path 0.2."""


def convert(files: Sequence[Path], llm: Path, out: Path, bert: Path | None, settings: Settings) -> list[str]:
    """Write a model directory; what was made of what is told, a line each. Raises ModelError; then nothing is written."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from qtablate.model.videochat2 import VideoChat2Model

    quiet()
    found = read(files)
    if "projection.weight" not in found.weights and "projection" not in settings.fresh:
        raise ModelError(
            f"{_named(files)} has no projection to a language model: give the files of stage 2 or 3 too, or --fresh projection "
            "to begin stage 2 from here"
        )
    text = "qformer.embeddings.word_embeddings.weight" in found.weights if settings.text is None else settings.text
    if text and bert is None:
        raise ModelError("this Q-Former reads text: --bert DIR is needed, a folder with bert-base-uncased's vocab.txt")
    if not (llm / "config.json").is_file():
        raise ModelError(f"--llm: {llm} is no language model's directory: expected config.json there")
    with reading(f"--llm: {llm}"):
        text_config = AutoConfig.from_pretrained(llm, local_files_only=True, trust_remote_code=False)
    variant = found.variant or next((name for name, kind in VARIANTS.items() if kind == text_config.model_type), "")
    if VARIANTS.get(variant) != text_config.model_type:
        raise ModelError(
            f"{llm} holds a {text_config.model_type}, and "
            + (
                f"{_named(files)} is of the {variant} variant, whose language model is a {VARIANTS[variant]}"
                if variant
                else f"VideoChat2's are {', '.join(VARIANTS.values())}; qtablate assemble takes any"
            )
        )
    with new_directory(out) as folder:
        words = write_qformer_tokenizer(bert, folder) if text and bert else 0
        config = _config(found, variant, text_config.to_dict(), text, settings)
        with torch.device("meta"):
            model = VideoChat2Model(config)
        own = {name: value for name, value in model.state_dict().items() if not name.startswith("language_model.")}
        held = _fitted(found.weights, own, text, settings.fresh)
        if text and words > len(held["qformer.embeddings.word_embeddings.weight"]):
            raise ModelError(
                f"--bert: {bert} has {words} tokens with [DEC], the Q-Former's table has "
                f"{len(held['qformer.embeddings.word_embeddings.weight'])}"
            )
        write_tokenizer(llm, folder)
        with reading(f"--llm: {llm}"):
            language = AutoModelForCausalLM.from_pretrained(
                llm, dtype=settings.dtype, local_files_only=True, trust_remote_code=False
            ).state_dict()
        if found.adapter and settings.merge:
            language = merged(language, found.adapter, settings.lora_alpha / ranks(found.adapter)[0])
        _load(model, held | {f"language_model.{name}": value for name, value in language.items()})
        model.save_pretrained(folder)
        if found.adapter and not settings.merge:
            pairs(language, found.adapter)  # raises where it does not fit
            write_adapter(folder / ADAPTER, found.adapter, settings.lora_alpha, DROPOUT)
    return _told(found, variant, config, text, settings, llm, language)


def _config(found: Original, variant: str, text_config: dict[str, Any], text: bool, settings: Settings) -> Any:
    """The model's shape as the files' tensors tell it."""
    from transformers import InstructBlipQFormerConfig, VideoMAEConfig

    from qtablate.model.videochat2 import VideoChat2Config

    weights = found.weights
    patch = _need(weights, "vision.embeddings.patch_embeddings.projection.weight")
    queries = _need(weights, "query_tokens")
    vision, width, side = patch.shape[0], queries.shape[-1], patch.shape[-1]
    layers, crossed = _layers(weights, "vision.encoder.layer."), _crossed(weights)
    words = weights.get("qformer.embeddings.word_embeddings.weight") if text else None
    places = weights.get("qformer.embeddings.position_embeddings.weight") if text else None
    extra = weights.get("extra_query_tokens")
    return VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=settings.image_size,
            patch_size=side,
            tubelet_size=1,
            num_frames=4,
            hidden_size=vision,
            num_hidden_layers=layers,
            num_attention_heads=_heads("--vision-heads", settings.vision_heads, vision),
            intermediate_size=_need(weights, "vision.encoder.layer.0.intermediate.dense.weight").shape[0],
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
        ).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=1 if words is None else len(words),
            max_position_embeddings=1 if places is None else len(places),
            hidden_size=width,
            num_hidden_layers=_layers(weights, "qformer.encoder.layer."),
            num_attention_heads=_heads("--qformer-heads", settings.qformer_heads, width),
            intermediate_size=_need(weights, "qformer.encoder.layer.0.intermediate_query.dense.weight").shape[0],
            cross_attention_frequency=crossed,
            encoder_hidden_size=vision,
            pad_token_id=0,
        ).to_dict(),
        text_config=text_config,
        num_query_tokens=queries.shape[1],
        extra_num_query_tokens=0 if extra is None else extra.shape[1],
        position_frames=4,
        position_image_size=224,
        num_frames=settings.num_frames,
        conversation=f"videochat2_{variant}",
        qformer_text=text,
        query_init_std=0.02,
        bos_as_value=settings.quirks,
        qformer_padded_left=settings.quirks,
        qformer_drop_path=0.2 if settings.quirks else 0.0,
        fresh_parts=list(settings.fresh) or None,
    )


def _need(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ModelError(f"missing: {name}; give the files of all stages together, each holds only what it trained")
    return weights[name]


def _layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max((int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix)), default=-1)


def _crossed(weights: Mapping[str, Tensor]) -> int:
    """In every how manieth layer the Q-Former looks at the clip."""
    layers = sorted({int(name.split(".")[3]) for name in weights if ".crossattention." in name})
    return layers[1] - layers[0] if len(layers) > 1 else max(1, _layers(weights, "qformer.encoder.layer."))


def _heads(option: str, given: int | None, width: int) -> int:
    heads = given or width // _HEAD
    if not heads or width % heads:
        raise ModelError(
            f"{option}: the files do not tell it, and {width} is no multiple of {given or _HEAD}; give their number"
        )
    return heads


def _fitted(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], text: bool, fresh: Sequence[str]) -> dict[str, Tensor]:
    """All weights outside the language model. Raises ModelError that lists every name that is missing, too many or of
    another shape."""
    kept = {name: value for name, value in weights.items() if text or not WITHOUT_TEXT.fullmatch(name)}
    absent = [name for name in missing(own, kept, text) if name.split(".")[0] not in fresh]
    foreign = [name for name in kept if name not in own]
    odd = [
        f"{name} is {tuple(kept[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in kept and kept[name].shape != value.shape
    ]
    parts = (("missing", absent), ("not this model's", foreign), ("of another shape", odd))
    wrong = [f"{len(names)} {what}: {', '.join(names)}" for what, names in parts if names]
    if wrong:
        raise ModelError("the files are no whole VideoChat2. " + "; ".join(wrong))
    blank = {
        name: torch.zeros(value.shape) for name, value in own.items() if name not in kept
    }  # read by nothing, or started anew
    return {name: value.contiguous() for name, value in (kept | blank).items()}


def _load(model: Any, state: dict[str, Tensor]) -> None:
    absent, foreign = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    lacking = [name for name in absent if model.get_parameter(name).is_meta]  # the others are tied to what was there
    if lacking or foreign:
        raise ModelError(
            f"the language model's directory lacks {', '.join(lacking) or 'nothing'}, has {', '.join(foreign)} too many"
        )


def _told(
    found: Original, variant: str, config: Any, text: bool, settings: Settings, llm: Path, language: Mapping[str, Tensor]
) -> list[str]:
    vision, qformer = config.vision_config, config.qformer_config
    extra = config.extra_num_query_tokens
    lines = [
        *found.files,
        f"VideoChat2, {variant} variant; language model: {llm}, {next(iter(language.values())).dtype}".replace("torch.", ""),
        f"vision: {vision.num_hidden_layers} layers of {vision.hidden_size}, {vision.num_attention_heads} heads, patches of "
        f"{vision.patch_size}, {config.vision_config.image_size} px",
        f"Q-Former: {qformer.num_hidden_layers} layers of {qformer.hidden_size}, {qformer.num_attention_heads} heads, cross-"
        f"attention in every {qformer.cross_attention_frequency}. layer, {'reads' if text else 'reads no'} text",
        f"query tokens: {config.num_query_tokens}, extra: {extra}" + (f" (rows 0-{extra - 1} kept)" if extra else ""),
    ]
    if found.adapter:
        how = "merged" if settings.merge else "kept as adapter"
        lines.append(f"LoRA: rank {ranks(found.adapter)[0]}, alpha {settings.lora_alpha:g}, {how}")
    if settings.fresh:
        lines.append(f"started anew from each cell's seed: {', '.join(settings.fresh)}")
    if found.left_out:
        lines.append(f"left out, as it should be: {len(found.left_out)} names ({', '.join(found.left_out)})")
    unread = [name for name in found.weights if not text and WITHOUT_TEXT.fullmatch(name)]
    if unread:
        lines.append(f"left out, since the Q-Former reads no text: {len(unread)} names")
    return lines


def _named(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)
