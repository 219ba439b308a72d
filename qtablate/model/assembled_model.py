"""The `assembled` family: any vision tower and any causal language model of transformers, around a new Q-Former.

An image tower encodes each frame alone, and the Q-Former attends to the patch tokens of all frames together, with a learned
position added for each frame; a video tower (VideoMAE) encodes the whole clip. `qtablate assemble` writes such models.
Shapes as in video_lm.py: B clips, T frames, N patch tokens, Q queries, D widths, H and W pixels.
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
from qtablate.model.encode import QFormerInputs
from qtablate.model.video_lm import ComposedModel

VIDEO_TOWERS = ("videomae",)
"""model_type of towers that take (B, T, 3, H, W); all others take images."""


class AssembledConfig(PreTrainedConfig):
    """Configuration of AssembledModel; VideoChat2Config explains the fields that both have."""

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
    """Features per frame, an image tower's class token included; of a video tower, its clip's features over its frames. The
    key is part of the file format of model directories."""
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    conversation: str = "plain"
    qformer_text: bool = False
    max_txt_len: int = 512
    query_init_std: float = 0.02
    learning_rate: float = 1e-4
    fresh_parts: list[str] | None = None


class AssembledModel(ComposedModel):
    """A vision tower, one Q-Former pass over the features of all frames, and a language model."""

    config_class = AssembledConfig
    base_model_prefix = "assembled"
    _no_split_modules = ["InstructBlipQFormerLayer"]  # noqa: RUF012
    connector_modules = ("frame_positions", "vision_norm", "qformer", "projection")

    def __init__(self, config: AssembledConfig) -> None:
        super().__init__(config)
        self.vision = AutoModel.from_config(config.vision_config)
        self.frame_positions = nn.Embedding(config.num_frames, config.qformer_config.encoder_hidden_size)
        self.vision_norm = nn.LayerNorm(config.qformer_config.encoder_hidden_size)
        self.build_connector_and_language_model(config)
        self.post_init()

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Run the vision tower: (B, T, 3, H, W) normalized pixels -> (B, N, D) features.

        Raises:
            ModelError: frames are not of the tower's size, or clips not of its length.
        """
        clips, frames, _, height, width = pixel_values.shape
        vision = self.config.vision_config
        if (height, width) != (vision.image_size, vision.image_size):
            raise ModelError(
                f"frames are {height} x {width} pixels, this vision tower takes {vision.image_size} x {vision.image_size}"
            )
        if vision.model_type in VIDEO_TOWERS:
            if frames not in (1, vision.num_frames):
                raise ModelError(f"clips have {frames} frames, this vision tower takes {vision.num_frames}")
            repeated = pixel_values.expand(-1, vision.num_frames, -1, -1, -1)  # an image becomes a still clip
            return cast(Tensor, self.vision(pixel_values=repeated).last_hidden_state)
        out = self.vision(pixel_values=pixel_values.flatten(0, 1)).last_hidden_state  # (B * T, N / T, D)
        return cast(Tensor, out.reshape(clips, frames * out.shape[1], out.shape[2]))

    def visual_tokens(self, features: Tensor, queries: Tensor | None = None, text: QFormerInputs | None = None) -> Tensor:
        """Run the connector: (B, N, D) features -> (B, Q, D) tokens; the Q-Former reads no text."""
        if self.config.vision_config.model_type not in VIDEO_TOWERS:
            frame = torch.arange(features.shape[1], device=features.device) // self.config.features_a_frame  # (N,)
            features = features + self.frame_positions(frame).to(features.dtype)
        return cast(Tensor, self.projection(self.run_qformer(self.vision_norm(features), queries, None)))


AutoConfig.register("assembled", AssembledConfig)
