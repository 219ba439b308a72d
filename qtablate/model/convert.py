"""VideoChat2's checkpoints and a language model's directory -> one model directory.

Each file holds only what its stage trained, so all stages are given together, in their order. Nothing is guessed: every name
must be known, and every tensor that the model needs must be there or rightly absent (videochat2_checkpoint.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, InstructBlipQFormerConfig, PreTrainedConfig, VideoMAEConfig

from qtablate.errors import ModelError
from qtablate.model.adapter import DROPOUT, lora_ranks, save_adapter
from qtablate.model.directory import ADAPTER, unreadable_as_model_error
from qtablate.model.load import quiet_transformers
from qtablate.model.save import new_directory, save_qformer_tokenizer, save_tokenizer
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model
from qtablate.model.videochat2_checkpoint import (
    TEXT_ONLY,
    VideoChat2Checkpoint,
    lora_pairs,
    merge_lora,
    missing_names,
    read_checkpoints,
)

VARIANTS = {"mistral": "mistral", "vicuna": "llama", "phi": "phi3"}
"""model_type of the language model, by variant of VideoChat2."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
_HEAD_WIDTH = 64  # in UMT-L and in BERT


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """What the checkpoints do not say about the model."""

    vision_heads: int | None = None
    """Number of attention heads; None: heads of width 64, as UMT-L has."""
    qformer_heads: int | None = None
    """Number of attention heads; None: heads of width 64, as BERT has."""
    image_size: int = 224
    """Height and width of frames, in pixels."""
    num_frames: int = 8
    lora_alpha: float = 32.0
    merge: bool = False
    """Whether the adapter is merged into the language model's weights, or kept as an adapter."""
    text: bool | None = None
    """Whether the Q-Former reads text; None: if the files have the weights for it."""
    dtype: str = "auto"
    """dtype of the language model: as in its directory, or float16, float32, bfloat16. VideoChat2 loads it in float16."""
    reinit_modules: tuple[str, ...] = ()
    """Modules that no file has yet and that every cell initializes from its seed: `projection`, before stage 2."""
    compatibility_flags: bool = False
    """Whether to train exactly as VideoChat2's code does: bos as a value, text padded on the left, drop path 0.2."""


def convert(files: Sequence[Path], llm: Path, out: Path, bert: Path | None, settings: ConversionSettings) -> list[str]:
    """Write a model directory from VideoChat2's files.

    Args:
        files: VideoChat2's .pth files, in the order of their stages.
        llm: transformers directory of the language model.
        out: the model directory to write; must be new.
        bert: folder of BERT's tokenizer, needed where the Q-Former reads text.

    Returns:
        A description of the model, one line per part.

    Raises:
        ModelError: the files do not make a complete model; nothing is written then.
    """
    quiet_transformers()
    checkpoint = read_checkpoints(files)
    if "projection.weight" not in checkpoint.weights and "projection" not in settings.reinit_modules:
        raise ModelError(
            f"{_file_names(files)} has no projection to a language model: give the files of stage 2 or 3 too, or --reinit "
            "projection to begin stage 2 from here"
        )
    text = settings.text
    if text is None:
        text = "qformer.embeddings.word_embeddings.weight" in checkpoint.weights
    if text and bert is None:
        raise ModelError("this Q-Former reads text: --bert DIR is needed, a folder with bert-base-uncased's vocab.txt")
    variant, text_config = _match_language_model(checkpoint, llm, files)
    with new_directory(out) as folder:
        bert_tokens = save_qformer_tokenizer(bert, folder) if text and bert else 0
        config = _model_config(checkpoint, variant, text_config.to_dict(), text, settings)
        with torch.device("meta"):
            model = VideoChat2Model(config)
        expected = {name: value for name, value in model.state_dict().items() if not name.startswith("language_model.")}
        weights = _complete_weights(checkpoint.weights, expected, text, settings.reinit_modules)
        if text and bert_tokens > (rows := len(weights["qformer.embeddings.word_embeddings.weight"])):
            raise ModelError(f"--bert: {bert} has {bert_tokens} tokens with [DEC], the Q-Former's table has {rows}")
        save_tokenizer(llm, folder)
        with unreadable_as_model_error(f"--llm: {llm}"):
            language = AutoModelForCausalLM.from_pretrained(
                llm, dtype=settings.dtype, local_files_only=True, trust_remote_code=False
            ).state_dict()
        if checkpoint.adapter and settings.merge:
            language = merge_lora(language, checkpoint.adapter, settings.lora_alpha / lora_ranks(checkpoint.adapter)[0])
        _assign_weights(model, weights | {f"language_model.{name}": value for name, value in language.items()})
        model.save_pretrained(folder)
        if checkpoint.adapter and not settings.merge:
            lora_pairs(language, checkpoint.adapter)  # raises where it does not fit
            save_adapter(folder / ADAPTER, checkpoint.adapter, settings.lora_alpha, DROPOUT)
    dtype = str(next(iter(language.values())).dtype).removeprefix("torch.")
    parts = [f"VideoChat2, {variant} variant; language model: {llm}, {dtype}"]
    return [*checkpoint.files, *parts, *_describe(checkpoint, config, text, settings)]


def _match_language_model(checkpoint: VideoChat2Checkpoint, llm: Path, files: Sequence[Path]) -> tuple[str, PreTrainedConfig]:
    """Return (variant, the language model's config), checked against one another.

    Raises:
        ModelError: there is no language model, or one of another variant.
    """
    if not (llm / "config.json").is_file():
        raise ModelError(f"--llm: {llm} is no language model's directory: expected config.json there")
    with unreadable_as_model_error(f"--llm: {llm}"):
        text_config = AutoConfig.from_pretrained(llm, local_files_only=True, trust_remote_code=False)
    model_type = text_config.model_type
    variant = checkpoint.variant or next((name for name, kind in VARIANTS.items() if kind == model_type), "")
    if VARIANTS.get(variant) == model_type:
        return variant, text_config
    if variant:
        expected = f"{_file_names(files)} is of the {variant} variant, whose language model is a {VARIANTS[variant]}"
    else:
        expected = f"VideoChat2's are {', '.join(VARIANTS.values())}; qtablate assemble takes any"
    raise ModelError(f"{llm} holds a {model_type}, and {expected}")


def _model_config(
    checkpoint: VideoChat2Checkpoint, variant: str, text_config: dict[str, object], text: bool, settings: ConversionSettings
) -> VideoChat2Config:
    """Derive the model's configuration from the shapes of the files' tensors."""
    weights = checkpoint.weights
    patch = _require(weights, "vision.embeddings.patch_embeddings.projection.weight")  # (D, 3, 1, patch size, patch size)
    queries = _require(weights, "query_tokens")  # (1, Q, D)
    vision_width, qformer_width, patch_size = patch.shape[0], queries.shape[-1], patch.shape[-1]
    words = weights.get("qformer.embeddings.word_embeddings.weight") if text else None
    positions = weights.get("qformer.embeddings.position_embeddings.weight") if text else None
    extra = weights.get("extra_query_tokens")
    return VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=settings.image_size,
            patch_size=patch_size,
            tubelet_size=1,
            num_frames=4,
            hidden_size=vision_width,
            num_hidden_layers=_count_layers(weights, "vision.encoder.layer."),
            num_attention_heads=_count_heads("--vision-heads", settings.vision_heads, vision_width),
            intermediate_size=_require(weights, "vision.encoder.layer.0.intermediate.dense.weight").shape[0],
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
        ).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=1 if words is None else len(words),
            max_position_embeddings=1 if positions is None else len(positions),
            hidden_size=qformer_width,
            num_hidden_layers=_count_layers(weights, "qformer.encoder.layer."),
            num_attention_heads=_count_heads("--qformer-heads", settings.qformer_heads, qformer_width),
            intermediate_size=_require(weights, "qformer.encoder.layer.0.intermediate_query.dense.weight").shape[0],
            cross_attention_frequency=_cross_attention_frequency(weights),
            encoder_hidden_size=vision_width,
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
        bos_as_value=settings.compatibility_flags,
        qformer_padded_left=settings.compatibility_flags,
        qformer_drop_path=0.2 if settings.compatibility_flags else 0.0,
        fresh_parts=list(settings.reinit_modules) or None,
    )


def _require(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ModelError(f"missing: {name}; give the files of all stages together, each holds only what it trained")
    return weights[name]


def _count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max((int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix)), default=-1)


def _cross_attention_frequency(weights: Mapping[str, Tensor]) -> int:
    """Return n where every n-th layer of the Q-Former attends to the clip."""
    layers = sorted({int(name.split(".")[3]) for name in weights if ".crossattention." in name})
    return layers[1] - layers[0] if len(layers) > 1 else max(1, _count_layers(weights, "qformer.encoder.layer."))


def _count_heads(option: str, heads: int | None, width: int) -> int:
    """Return the number of attention heads: as the option says, or heads of the usual width.

    Raises:
        ModelError: the width cannot be divided into such heads.
    """
    count = heads or width // _HEAD_WIDTH
    if not count or width % count:
        raise ModelError(
            f"{option}: the files do not tell it, and {width} is no multiple of {heads or _HEAD_WIDTH}; give their number"
        )
    return count


def _complete_weights(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], text: bool, reinit_modules: Sequence[str]
) -> dict[str, Tensor]:
    """Return all weights outside the language model, with zeros where none are needed.

    Raises:
        ModelError: names are missing, unknown or of another shape; all are listed.
    """
    kept = {name: value for name, value in weights.items() if text or not TEXT_ONLY.fullmatch(name)}
    missing = [name for name in missing_names(expected, kept, text) if name.split(".")[0] not in reinit_modules]
    unknown = [name for name in kept if name not in expected]
    misshapen = [
        f"{name} is {tuple(kept[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in kept and kept[name].shape != value.shape
    ]
    problems = (("missing", missing), ("not this model's", unknown), ("of another shape", misshapen))
    described = [f"{len(names)} {problem}: {', '.join(names)}" for problem, names in problems if names]
    if described:
        raise ModelError("the files are no whole VideoChat2. " + "; ".join(described))
    # zeros for what no text passes, and for what every cell reinitializes
    zeros = {name: torch.zeros(value.shape) for name, value in expected.items() if name not in kept}
    return {name: value.contiguous() for name, value in (kept | zeros).items()}


def _assign_weights(model: VideoChat2Model, state: dict[str, Tensor]) -> None:
    """Put all weights into a model on the meta device.

    Raises:
        ModelError: the language model lacks weights or has unknown ones.
    """
    absent, unknown = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    missing = [name for name in absent if model.get_parameter(name).is_meta]  # the others are tied to loaded ones
    if missing or unknown:
        raise ModelError(
            f"the language model's directory lacks {', '.join(missing) or 'nothing'}, has {', '.join(unknown)} too many"
        )


def _describe(
    checkpoint: VideoChat2Checkpoint, config: VideoChat2Config, text: bool, settings: ConversionSettings
) -> list[str]:
    """Describe the model that was made, one line per part."""
    vision, qformer = config.vision_config, config.qformer_config
    extra = config.extra_num_query_tokens
    lines = [
        f"vision: {vision.num_hidden_layers} layers of {vision.hidden_size}, {vision.num_attention_heads} heads, patches of "
        f"{vision.patch_size}, {vision.image_size} px",
        f"Q-Former: {qformer.num_hidden_layers} layers of {qformer.hidden_size}, {qformer.num_attention_heads} heads, cross-"
        f"attention in every {qformer.cross_attention_frequency}. layer, {'reads' if text else 'reads no'} text",
        f"query tokens: {config.num_query_tokens}, extra: {extra}" + (f" (rows 0-{extra - 1} kept)" if extra else ""),
    ]
    if checkpoint.adapter:
        action = "merged" if settings.merge else "kept as adapter"
        lines.append(f"LoRA: rank {lora_ranks(checkpoint.adapter)[0]}, alpha {settings.lora_alpha:g}, {action}")
    if settings.reinit_modules:
        lines.append(f"reinitialized from each cell's seed: {', '.join(settings.reinit_modules)}")
    if checkpoint.ignored:
        lines.append(f"ignored, not needed: {len(checkpoint.ignored)} names ({', '.join(checkpoint.ignored)})")
    unread = [name for name in checkpoint.weights if not text and TEXT_ONLY.fullmatch(name)]
    if unread:
        lines.append(f"ignored, since the Q-Former reads no text: {len(unread)} names")
    return lines


def _file_names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)
