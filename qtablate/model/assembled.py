"""Any vision tower and any causal language model of transformers, around a Q-Former: what `qtablate assemble` writes.

A tower that takes pictures sees each frame alone, and the Q-Former all frames' patches together, with a learned position
added for every frame; a tower that takes clips (VideoMAE) sees the clip as it is.
"""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    InstructBlipQFormerConfig,
    PreTrainedConfig,
)
from transformers.configuration_utils import SubConfigSpec

from qtablate.errors import ModelError
from qtablate.model.family import Container

OF_CLIPS = ("videomae",)
"""Towers that take (B, T, 3, H, W); all others take pictures."""


class AssembledConfig(PreTrainedConfig):
    """See VideoChat2Config for what both have."""

    model_type = "assembled"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="vit"),
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    num_query_tokens: int = 32
    extra_num_query_tokens: int = 0
    num_frames: int = 8
    features_a_frame: int = 1
    """Features that one frame gives (a picture tower's class token counted); of a clip tower, its clip's over its frames."""
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    conversation: str = "plain"
    qformer_text: bool = False
    max_txt_len: int = 512
    query_init_std: float = 0.02
    learning_rate: float = 1e-4
    fresh_parts: list[str] | None = None


class AssembledModel(Container):
    config_class = AssembledConfig
    base_model_prefix = "assembled"
    _no_split_modules = ["InstructBlipQFormerLayer"]  # noqa: RUF012
    bridge = ("frame_positions", "vision_norm", "qformer", "projection")

    def __init__(self, config: AssembledConfig) -> None:
        super().__init__(config)
        self.vision = AutoModel.from_config(config.vision_config)
        self.frame_positions = nn.Embedding(config.num_frames, config.qformer_config.encoder_hidden_size)
        self.vision_norm = nn.LayerNorm(config.qformer_config.encoder_hidden_size)
        self.build_behind(config)
        self.post_init()

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        clips, frames, _, height, width = pixel_values.shape
        vision = self.config.vision_config
        if (height, width) != (vision.image_size, vision.image_size):
            raise ModelError(f"frames are {height} x {width} pixels, this vision tower takes {vision.image_size} x the same")
        if vision.model_type in OF_CLIPS:
            if frames not in (1, vision.num_frames):
                raise ModelError(f"clips have {frames} frames, this vision tower takes {vision.num_frames}")
            shown = pixel_values.expand(-1, vision.num_frames, -1, -1, -1)  # a picture is a clip that stands still
            return cast(Tensor, self.vision(pixel_values=shown).last_hidden_state)
        out = self.vision(pixel_values=pixel_values.flatten(0, 1)).last_hidden_state
        return cast(Tensor, out.reshape(clips, frames * out.shape[1], out.shape[2]))

    def visual_tokens(
        self, features: Tensor, queries: Tensor | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        if self.config.vision_config.model_type not in OF_CLIPS:
            each = self.config.features_a_frame
            frame = torch.arange(features.shape[1], device=features.device) // each
            features = features + self.frame_positions(frame).to(features.dtype)
        return cast(Tensor, self.projection(self.look(self.vision_norm(features), queries, None)))


AutoConfig.register("assembled", AssembledConfig)
