"""`qtablate convert`, `assemble` and `cache`: model directories, and the visual features computed with them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from qtablate.cli.console import console, say
from qtablate.cli.options import POSITIVE, number, one_of


def convert(
    files: Annotated[list[Path], typer.Argument(help="VideoChat2's .pth files in the order of their stages.")],
    llm: Annotated[Path, typer.Option(help="Directory of the language model: Mistral, Vicuna or Phi-3.")],
    out: Annotated[Path, typer.Option(help="Model directory to write; must be new.")],
    bert: Annotated[
        Path | None, typer.Option(help="Folder with bert-base-uncased's vocab.txt, for the Q-Former's text.")
    ] = None,
    merge_lora: Annotated[
        bool, typer.Option("--merge-lora/--keep-lora", help="Add LoRA to the weights, or keep it apart.")
    ] = False,
    lora_alpha: Annotated[float, number(POSITIVE, help="Not in the files; VideoChat2's is 32.")] = 32.0,
    qformer_text: Annotated[
        bool | None, typer.Option("--qformer-text/--no-qformer-text", help="Default: as the files have weights for it.")
    ] = None,
    reinit: Annotated[
        str, typer.Option(help="projection: no file has it yet (before stage 2), so each cell initializes it from its seed.")
    ] = "",
    dtype: Annotated[str, typer.Option(help="Of the language model: auto (as it is), float16 (as VideoChat2), ...")] = "auto",
    image_size: Annotated[int, typer.Option(min=16, help="Height and width of frames, in pixels.")] = 224,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames per clip (VideoChat2: 8 in training, 16 in MVBench).")] = 8,
    vision_heads: Annotated[int | None, typer.Option(min=1, help="Not in the files. Default: heads of 64.")] = None,
    qformer_heads: Annotated[int | None, typer.Option(min=1, help="Not in the files. Default: heads of 64.")] = None,
    match_videochat2: Annotated[
        bool, typer.Option("--match-videochat2", help="Train as VideoChat2 does: bos as a number, left padding, drop path 0.2.")
    ] = False,
) -> None:
    """Convert VideoChat2's checkpoints and its language model's directory to a model directory."""
    from qtablate.model import convert as conversion

    settings = conversion.ConversionSettings(
        vision_heads,
        qformer_heads,
        image_size,
        num_frames,
        lora_alpha,
        merge_lora,
        qformer_text,
        one_of("--dtype", dtype, conversion.DTYPES),
        (one_of("--reinit", reinit, ("projection",)),) if reinit else (),
        match_videochat2,
    )
    _show_written(out, conversion.convert(files, llm, out, bert, settings))


def assemble(
    vision: Annotated[Path, typer.Option(help="Local transformers directory: ViT, CLIP, SigLIP, VideoMAE.")],
    llm: Annotated[Path, typer.Option(help="Local directory of a causal language model, or a GGUF file.")],
    out: Annotated[Path, typer.Option(help="Model directory to write; must be new.")],
    num_query_tokens: Annotated[int, typer.Option(min=1, help="Base queries.")] = 32,
    qformer_layers: Annotated[int, typer.Option(min=1, help="Layers of the Q-Former.")] = 6,
    qformer_width: Annotated[int, typer.Option(min=64, help="Hidden size of the Q-Former, a multiple of 64.")] = 768,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames per clip; a VideoMAE keeps its own number.")] = 8,
    conversation: Annotated[
        str, typer.Option(help="Turn markers. Default: chatml where the tokenizer knows it, or plain.")
    ] = "",
    lr: Annotated[float, number(POSITIVE, help="Peak learning rate of this model's sweeps.")] = 1e-4,
) -> None:
    """Build a model around a vision tower and a language model, with a new Q-Former between them."""
    from qtablate.model import assemble as assembly

    connector = assembly.ConnectorConfig(num_query_tokens, qformer_layers, qformer_width, num_frames, conversation, lr)
    _show_written(out, assembly.assemble(vision, llm, out, connector))


def _show_written(out: Path, lines: list[str]) -> None:
    screen = console()
    for line in lines:
        say(screen, line)
    say(screen, f"Written: {out}. Use it: qtablate sweep --model {out} --dry-run")


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all features; they are computed again when needed.")] = False,
    limit: Annotated[float | None, number(0, help="Remove the least recently used down to so many GB.")] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Remove features that lack a clip because of a decode timeout: it is tried again.")
    ] = False,
) -> None:
    """Show the cached visual features, or remove some. QTABLATE_CACHE names the folder, QTABLATE_CACHE_GB its limit."""
    from qtablate.model.cache import chunks, default_cache, limit_bytes, prune, remove, retryable_chunks

    screen, folder = console(), default_cache() / "features"
    chosen = chunks(folder) if clear else retryable_chunks(folder) if retry else []
    removed = [chunk for chunk in chosen if remove(folder, chunk.stem)]
    if limit is not None and not clear:
        removed = prune(folder, int(limit * 1e9))
    if removed:
        say(screen, f"Removed {len(removed)} files, {sum(chunk.size for chunk in removed) / 1e9:.2f} GB.")
    kept = chunks(folder)
    size = sum(chunk.size for chunk in kept) / 1e9
    oldest = f", the least recently used on {time.strftime('%Y-%m-%d', time.localtime(kept[0].used))}" if kept else ""
    say(screen, f"{folder}: {len(kept)} files, {size:.2f} of at most {limit_bytes() / 1e9:g} GB{oldest}.")
