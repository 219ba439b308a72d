"""Local transformers directories -> one model directory of the `assembled` family, its bridge new."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qtablate.datatypes import VIDEO, Sample
from qtablate.errors import DataError, ModelError
from qtablate.model.initialise import initialise, normal
from qtablate.model.load import quiet, read_preprocessing, reading
from qtablate.model.save import new_directory, write_tokenizer

TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
"""Models of pictures and texts, of which the vision half is taken; any other directory is a vision tower as it is."""
_HEAD = 64


@dataclass(frozen=True, slots=True)
class Bridge:
    """The Q-Former between the two (BERT-base has 12 layers of 768)."""

    num_query_tokens: int = 32
    layers: int = 6
    width: int = 768
    num_frames: int = 8
    conversation: str = ""
    """Empty: chatml where the tokenizer knows its markers, else plain."""
    learning_rate: float = 1e-4
    """BLIP-2's for a new Q-Former (arXiv 2301.12597)."""


def assemble(vision: Path, llm: Path, out: Path, bridge: Bridge) -> list[str]:
    """Write a model directory; what it holds is told a line each. Raises ModelError; then nothing is written."""
    from transformers import InstructBlipQFormerConfig

    from qtablate.model.assembled import OF_CLIPS, AssembledConfig, AssembledModel
    from qtablate.model.encode import Encoder
    from qtablate.prompts.segments import formats

    quiet()
    if bridge.width % _HEAD:
        raise ModelError(f"--qformer-width: {bridge.width} is no multiple of {_HEAD}, the width of a head")
    if bridge.conversation and bridge.conversation not in formats():
        raise ModelError(f"--conversation: unknown '{bridge.conversation}'; known: {', '.join(formats())}")
    tower, language, tokenizer = _tower(vision), *_language(llm)
    seen = tower.config
    conversation = bridge.conversation or ("chatml" if "<|im_start|>" in tokenizer.get_vocab() else "plain")
    try:
        Encoder(tokenizer, formats()[conversation]).told(Sample("one", VIDEO, "clip", (("What?", "this"),)))
    except DataError as error:
        raise ModelError(f"--conversation {conversation}: {error}; name another one") from None
    frames = seen.num_frames if seen.model_type in OF_CLIPS else bridge.num_frames
    config = AssembledConfig(
        vision_config=seen.to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=1,
            max_position_embeddings=1,
            pad_token_id=None,
            hidden_size=bridge.width,
            num_hidden_layers=bridge.layers,
            num_attention_heads=bridge.width // _HEAD,
            intermediate_size=4 * bridge.width,
            cross_attention_frequency=2,
            encoder_hidden_size=seen.hidden_size,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ).to_dict(),
        text_config=language.config.to_dict(),
        num_query_tokens=bridge.num_query_tokens,
        num_frames=frames,
        conversation=conversation,
        learning_rate=bridge.learning_rate,
        **read_preprocessing(vision),
    )
    model = AssembledModel(config)
    model.vision, model.language_model = tower, language
    with torch.no_grad():
        for part in model.bridge:
            initialise(getattr(model, part), 0, part)
        table = model.query_tokens
        table.copy_(normal(tuple(table.shape), config.query_init_std, "init", 0, "query_tokens"))
        shown = torch.zeros(1, frames, 3, seen.image_size, seen.image_size)
        config.features_a_frame = model.vision_features(shown).shape[1] // frames
    config.fresh_parts = [*model.bridge, "query_tokens"]
    with new_directory(out) as folder:
        model.save_pretrained(folder)
        if llm.is_dir():
            write_tokenizer(llm, folder)
        else:
            tokenizer.save_pretrained(folder)
    count = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("vision", *model.bridge)}
    words = sum(p.numel() for p in language.parameters())
    return [
        f"vision: {seen.model_type} from {vision}, {count.pop('vision'):,} parameters, {frames} frames of {seen.image_size} px "
        f"with {config.features_a_frame} features each; pixels: "
        + (f"mean {config.image_mean}, deviation {config.image_std}" if config.image_mean else "CLIP's mean, none was found"),
        f"bridge, started anew from each cell's seed: {sum(count.values()):,} parameters, {bridge.num_query_tokens} queries",
        f"language model: {language.config.model_type} from {llm}, {words:,} parameters; conversations: {conversation}",
    ]


def _tower(folder: Path) -> Any:
    import transformers

    if not (folder / "config.json").is_file():
        raise ModelError(f"--vision: {folder} is no transformers directory: expected config.json there")
    with reading(f"--vision: {folder}"):
        kind = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).model_type
    family: Any = getattr(transformers, TOWERS.get(kind, "AutoModel"))
    with reading(f"--vision: {folder}"):
        tower = family.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype="float32"
        )
    for name in ("hidden_size", "image_size"):
        if not isinstance(getattr(tower.config, name, None), int):
            raise ModelError(
                f"--vision: {folder} holds a {kind}, whose config has no {name}; expected ViT, CLIP, SigLIP, VideoMAE"
            )
    return tower


def _language(source: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a directory or a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qtablate.model.load import tokenizer

    named: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if is_gguf := source.suffix == ".gguf" and source.is_file():
        if importlib.util.find_spec("gguf") is None:
            raise ModelError("--llm: a GGUF file needs the package gguf: pip install 'qtablate[gguf]'")
        named["gguf_file"] = source.name
    elif not (source / "config.json").is_file():
        raise ModelError(f"--llm: {source} is neither a GGUF file nor a transformers directory with config.json")
    folder = source.parent if is_gguf else source
    with reading(f"--llm: {source}"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32" if is_gguf else "auto", **named)
        return model, AutoTokenizer.from_pretrained(folder, **named) if is_gguf else tokenizer(source)
