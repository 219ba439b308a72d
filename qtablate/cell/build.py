"""Build what a cell trains: the model with its queries resized and its parts frozen, and the training that runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qtablate.config import DataConfig
from qtablate.datatypes import VIDEO, Sample
from qtablate.grid import Cell
from qtablate.model.adapter import disable_lora_dropout, new_adapter
from qtablate.model.encode import ConversationEncoder
from qtablate.model.features import vision_dtype
from qtablate.model.load import load, reinitialize
from qtablate.model.preprocess import CLIP_MEAN, normalize_frames
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.video_lm import VideoLM
from qtablate.train.accumulate import AccumulationRules
from qtablate.train.device import LOAD_DTYPES, ComputeContext, compute_context
from qtablate.train.distributed import SINGLE_PROCESS, ProcessGroup
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.trainable import choose_trainable


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that can be trained and scored."""

    model: VideoLM
    encoder: ConversationEncoder
    parameters: dict[str, torch.nn.Parameter]
    """What is trained, by name."""
    query_resize: str
    """What became of the extra query tokens, in words."""
    compute: ComputeContext


def build_model(cell: Cell, data: DataConfig) -> PreparedModel:
    """Load the base and prepare it (prepare_model)."""
    return prepare_model(cell, *load(data.model, LOAD_DTYPES[cell.settings.precision], cell.condition.frames))


def prepare_model(cell: Cell, model: VideoLM, encoder: ConversationEncoder) -> PreparedModel:
    """Start the base's fresh parts, its extra queries and its LoRA from the cell's seed, and freeze the rest, in place."""
    settings, condition = cell.settings, cell.condition
    reinitialize(model, cell.seed)
    # where there are no extra tokens, no level of extra_init is true of the condition
    init = "normal" if condition.extra_num_query_tokens == 0 else condition.extra_init
    resize = resize_extra_queries(model, condition.extra_num_query_tokens, init, cell.seed)
    if settings.lora_rank:
        new_adapter(model, settings.lora_rank, cell.seed)
    else:
        disable_lora_dropout(model)
    parameters = choose_trainable(model, settings.train_language_model, bool(settings.lora_rank))
    for parameter in parameters.values():
        parameter.data = parameter.data.float()  # a language model that is trained was loaded in the frozen parts' precision
    where = compute_context(model, settings.precision, settings.gradient_checkpointing)
    return PreparedModel(model, encoder, parameters, str(resize), where)


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """How many parameters a model trains and freezes."""

    trainable: int
    frozen: int


def count_parameters(prepared: PreparedModel) -> ParameterCounts:
    """Count trained and frozen parameters."""
    trainable = sum(p.numel() for p in prepared.parameters.values())
    return ParameterCounts(trainable, sum(p.numel() for p in prepared.model.parameters()) - trainable)


def train_plan(cell: Cell) -> TrainPlan:
    """The training plan of a cell."""
    settings, condition = cell.settings, cell.condition
    return TrainPlan(
        condition.micro_batch_size,
        condition.accumulate_grad_batches,
        cell.learning_rate,
        settings.warmup_ratio,
        settings.min_lr_ratio,
        settings.weight_decay,
        cell.betas,
        settings.max_text_tokens,
        AccumulationRules(condition.loss_norm, condition.clip_per, condition.lr_step_per, settings.max_grad_norm),
        condition.extra_lr,
        condition.mixing == "mixed" or settings.image_ratio in (0, 1),
    )


def make_training(
    prepared: PreparedModel,
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    plan: TrainPlan,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Training:
    """The training of a prepared model on samples in their order. `lookup` gives a clip's frozen features (N, D)."""
    return Training(prepared.model, prepared.parameters, samples, lookup, prepared.encoder, plan, prepared.compute, group)


def blank_features(model: VideoLM, medium: str) -> Tensor:
    """Features (N, D) of a clip in which every pixel has the mean color: no visual information, but no foreign input either."""
    frames = model.config.num_frames if medium == VIDEO else 1
    size = model.config.vision_config.image_size
    mean = np.round(255 * np.array(model.config.image_mean or CLIP_MEAN)).astype(np.uint8)
    clip = np.broadcast_to(mean, (frames, size, size, 3))
    with torch.inference_mode():
        pixels = normalize_frames([clip], model.config.image_mean, model.config.image_std)
        return model.vision_features(pixels.to(model.device, vision_dtype(model)))[0].cpu()
