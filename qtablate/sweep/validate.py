"""Combinations of settings that cannot be run, each refused before anything runs, with the reason and the remedy."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from qtablate.config import SweepConfig
from qtablate.datatypes import Problem, TrainingData
from qtablate.errors import ConfigError, DataError
from qtablate.execute.resources import gpus
from qtablate.grid import CellSettings, conditions, windows
from qtablate.model.directory import check_frames, visual_tokens
from qtablate.statistics.sequential import FIRST_LOOK


def validate_grid(config: SweepConfig, settings: CellSettings, model_config: Mapping[str, Any]) -> None:
    """Refuse axes and settings that cannot be run together. Raises ConfigError."""
    processes = config.run.processes_per_cell
    if 0 < len(gpus()) < processes:
        raise ConfigError(
            f"--processes-per-cell {processes} need a GPU each, and there are {len(gpus())}: use fewer, or set "
            "CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    if settings.diagnose and (model_config["model_type"] != "videochat2" or model_config["qformer_text"]):
        raise ConfigError(
            "--diagnose measures VideoChat2's Q-Former, over all frames at once and without text; this model has another: "
            "leave it out"
        )
    if config.run.until_decided and len(config.grid.seeds) <= FIRST_LOOK:
        raise ConfigError(
            f"--until-decided looks first after {FIRST_LOOK} seeds, and --seeds gives {len(config.grid.seeds)}: give more"
        )
    for frames in {condition.frames for condition, _ in conditions(config.grid, model_config["num_frames"])}:
        check_frames(model_config, frames)
    _validate_batches(config, settings)


def _validate_batches(config: SweepConfig, settings: CellSettings) -> None:
    grid, processes = config.grid, config.run.processes_per_cell
    split = grid.batch_size_is == "effective-batch"
    for batch, accum, mixing in windows(grid):
        if split and batch % accum:
            raise ConfigError(
                f"--batch-size-is effective-batch splits each batch into micro-batches: --batch-size {batch} is "
                f"not a multiple of --accum {accum}; choose a multiple of every --accum value"
            )
        micro = batch // accum if split else batch
        if micro < processes:
            size = f"--batch-size {batch} / --accum {accum} = " if split else "--batch-size "
            raise ConfigError(
                f"--processes-per-cell {processes} share every micro-batch, and {size}{micro} samples are too "
                f"few for them: raise --batch-size or use --processes-per-cell {micro}" + (" or fewer" if micro > 1 else "")
            )
        if settings.budget == "samples" and micro * accum > settings.samples:
            raise ConfigError(
                f"--samples {settings.samples} is less than one window of --batch-size {micro} x --accum {accum} = "
                f"{micro * accum} samples: no optimizer step would be whole; raise --samples or lower one of the others"
            )
        if mixing == "mixed" and 0 < settings.image_ratio < 1:
            ratio = Fraction(repr(settings.image_ratio))  # the fraction that was meant, which floating point may miss
            least = min(ratio, 1 - ratio)
            if micro * least < 1:
                raise ConfigError(
                    f"--mixing mixed puts every medium into each micro-batch, but {micro} samples at --image-ratio "
                    f"{settings.image_ratio:g} do not hold both; use micro-batches of {math.ceil(1 / least)} or more, "
                    "--image-ratio 0, or --mixing random"
                )


def validate_data(config: SweepConfig, settings: CellSettings, model_config: Mapping[str, Any], training: TrainingData) -> None:
    """Refuse more tokens than the language model has positions for, and media that the data lack. Raises QtablateError."""
    visual, tokens, frames = max(
        (
            visual_tokens({**model_config, "num_frames": condition.frames}, condition.extra_num_query_tokens),
            condition.extra_num_query_tokens,
            condition.frames,
        )
        for condition, _ in conditions(config.grid, model_config["num_frames"])
    )
    positions = model_config.get("text_config", {}).get("max_position_embeddings")
    if isinstance(positions, int) and visual + settings.max_text_tokens > positions:
        raise ConfigError(
            f"--tokens: {tokens} extra tokens at {frames} frames make {visual} visual ones, which leaves no room for "
            f"{settings.max_text_tokens} tokens of text in the {positions} positions of the language model"
        )
    for medium, ratio in (("image", settings.image_ratio), ("video", 1 - settings.image_ratio)):
        if ratio > 0 and not training.media().get(medium):
            raise DataError(
                f"--image-ratio {settings.image_ratio:g} needs {medium} samples, and --train {config.data.train} holds none; "
                f"use --image-ratio {0 if medium == 'image' else 1}"
            )


def validate_invalid_share(what: str, invalid: int, total: int, problems: Sequence[Problem], limit: float) -> None:
    """Stop where more than a share `limit` of samples or items is invalid. Raises DataError that names the first three."""
    if invalid > limit * total:
        named = "; ".join(f"{problem.subject}: {problem.kind} ({problem.detail})" for problem in problems[:3])
        raise DataError(
            f"{invalid} of {total} {what} cannot be used, more than --max-invalid {limit:g} allows: {named}. "
            "Repair or remove them, or raise --max-invalid"
        )
