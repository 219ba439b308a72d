"""Fill in what a configuration leaves to the model or to the data."""

from typing import Any

from qtablate.config import SweepConfig
from qtablate.data.sources import open_training, trains_on_world_only
from qtablate.grid import CellSettings

WORLD_IMAGE_RATIO = 0.125
"""Default share of images where the procedural world is the training data."""


def resolve(config: SweepConfig, model_config: dict[str, Any]) -> CellSettings:
    """Fill in what the user left to the model or the data: the learning rate is the model's own; images have a part where the
    data has any. Raises DataError."""
    train, data = config.train, config.data
    budget, size = (train.budget.unit, train.budget.size) if train.budget else ("samples", train.samples)
    samples = size if budget == "samples" else train.samples
    image_ratio = train.image_ratio
    if image_ratio is None:
        image_ratio = WORLD_IMAGE_RATIO
        if not trains_on_world_only(data):
            media = open_training(data, model_config, samples, WORLD_IMAGE_RATIO).media()
            image_ratio = media.get("image", 0) / sum(media.values())
    return CellSettings(
        samples=samples,
        image_ratio=image_ratio,
        learning_rate=train.learning_rate if train.learning_rate is not None else model_config["learning_rate"],
        warmup_ratio=train.warmup_ratio,
        min_lr_ratio=train.min_lr_ratio,
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_beta1,
        max_grad_norm=train.max_grad_norm,
        train_language_model=train.train_language_model,
        max_text_tokens=model_config["max_txt_len"],
        controls=config.eval.controls,
        scorers=config.eval.scorers,
        lora_rank=train.lora_rank,
        precision=train.precision,
        gradient_checkpointing=train.gradient_checkpointing,
        diagnose=config.eval.diagnose,
        budget=budget,
        budget_size=0 if budget == "samples" else size,
    )
