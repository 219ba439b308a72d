"""VideoChat2, composed of stock transformers modules.

video -> VideoMAE-type encoder -> Q-Former with learnable queries -> linear projection -> causal language model.
Sources: OpenGVLab/Ask-Anything video_chat2 (facts only); the Q-Former is transformers' InstructBLIP one.
Shapes as in video_lm.py: B clips, T frames, N patch tokens, Q queries, D widths, H and W pixels.
"""

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    InstructBlipQFormerConfig,
    PreTrainedConfig,
    VideoMAEConfig,
    VideoMAEModel,
)
from transformers.configuration_utils import SubConfigSpec

from qtablate.model.dropout import add_drop_path
from qtablate.model.encode import QFormerInputs
from qtablate.model.video_lm import ComposedModel

VISION_NORM_EPS = 1e-12  # of VideoChat2's vision_layernorm; VideoMAE's config has one eps for all its norms


class VideoChat2Config(PreTrainedConfig):
    """Configuration of VideoChat2Model; the names of its fields are keys of config.json."""

    model_type = "videochat2"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": VideoMAEConfig,
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    num_query_tokens: int = 32
    extra_num_query_tokens: int = 0
    """0 means that the parameter does not exist."""
    position_frames: int = 4
    """Number of frames of the sinusoid table that other lengths are interpolated from (always 4 in VideoChat2)."""
    position_image_size: int | None = None
    """Image size in pixels that the table is made for (224 in VideoChat2); None: as in vision_config. For clips of another
    size the table is interpolated."""
    num_frames: int = 8
    """Number of frames sampled from a clip."""
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    conversation: str = "nano"
    """Conversation format: a name in qtablate.prompts.registry.FORMATS."""
    qformer_text: bool = False
    """Whether the Q-Former reads text (VideoChat2's qformer_text_input); its tokenizer is in `qformer_tokenizer/`."""
    max_txt_len: int = 512
    """Maximum number of text tokens in a training sequence, and in the Q-Former's text."""
    bos_as_value: bool = False
    """Compatibility flag: VideoChat2 trains with its bos token's number in place of that token's embedding (not at
    inference). Off: the embedding."""
    qformer_padded_left: bool = False
    """Compatibility flag: VideoChat2 pads the Q-Former's text on the left, and positions count the padding, so a sample's
    visual tokens depend on what it is batched with. Off: they do not."""
    supervise_end: bool = True
    """Compatibility flag: whether the end of an answer is supervised. Off in VideoChat2's stage 2, whose padding is the same
    token."""
    tell_seconds: bool = False
    """Whether the conversation states when the frames of a video were sampled (VideoChat2's add_second_msg)."""
    qformer_drop_path: float = 0.0
    """Stochastic depth: rate in the Q-Former's last layer, rising linearly from 0 in the first (VideoChat2 trains with 0.2)."""
    query_init_std: float = 0.02
    """Standard deviation of base queries that are reinitialized."""
    learning_rate: float = 2e-5
    """Default peak learning rate of a sweep (VideoChat2's stage 3)."""
    fresh_parts: list[str] | None = None
    """Modules that each cell reinitializes from its seed (a base for the alignment stage); empty: all come from the file. The
    key is part of the file format: renaming it would change the fingerprints of model directories."""


class VideoChat2Model(ComposedModel):
    """VideoChat2: one Q-Former pass over the patch tokens of all frames."""

    config_class = VideoChat2Config
    base_model_prefix = "videochat2"
    _no_split_modules = ["VideoMAELayer", "InstructBlipQFormerLayer"]  # noqa: RUF012

    def __init__(self, config: VideoChat2Config) -> None:
        super().__init__(config)
        self.vision = VideoMAEModel(config.vision_config)
        cast(nn.LayerNorm, self.vision.layernorm).eps = VISION_NORM_EPS
        self.build_connector_and_language_model(config)
        add_drop_path(self.qformer, config.qformer_drop_path)
        self._tables: dict[tuple[int, int, int, torch.device, torch.dtype], Tensor] = {}
        self.post_init()

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Run the vision tower: (B, T, 3, H, W) normalized pixels -> (B, N, D) patch features after vision_layernorm."""
        _, frames, _, height, width = pixel_values.shape
        embeddings = self.vision.embeddings
        embeddings.patch_embeddings.image_size = (height, width)
        embeddings.position_embeddings = self._positions(frames, height, width)
        return cast(Tensor, self.vision(pixel_values=pixel_values).last_hidden_state)

    def visual_tokens(self, features: Tensor, queries: Tensor | None = None, text: QFormerInputs | None = None) -> Tensor:
        """Run the connector: (B, N, D) features -> (B, Q, D) tokens; the text is VideoChat2's instruction."""
        return cast(Tensor, self.projection(self.run_qformer(features, queries, text)))

    def _positions(self, frames: int, height: int, width: int) -> Tensor:
        """Return the position table (1, N, D) of one clip size, computed once; no state dict holds it."""
        patches = cast(Any, self.vision.embeddings).patch_embeddings.projection.weight
        key = (frames, height, width, patches.device, patches.dtype)
        if key not in self._tables:
            table = position_table(cast(VideoChat2Config, self.config), frames, height, width)
            self._tables[key] = table.to(device=patches.device, dtype=patches.dtype)
        return self._tables[key]


def position_table(config: VideoChat2Config, frames: int, height: int, width: int) -> Tensor:
    """Compute sinusoid positions for `frames` frames of height x width pixels, interpolated from the checkpoint's own size.

    Space first (bicubic), then time (linear), both with align_corners False; one frame takes the table's first frame.
    Source: Ask-Anything video_chat2 `models/umt/vit.py` (facts only).

    Returns:
        (1, N, D) float32, N = T * (H / patch size) * (W / patch size).
    """
    vision = config.vision_config
    grid = (config.position_image_size or vision.image_size) // vision.patch_size
    dim, known = vision.hidden_size, config.position_frames
    position = torch.arange(known * grid * grid, dtype=torch.float64)[:, None]
    rate = torch.exp(-math.log(10000.0) * 2 * (torch.arange(dim, dtype=torch.float64) // 2) / dim)
    angle = position * rate
    table = torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos()).float()
    table = table.view(known, grid, grid, dim)
    rows, columns = height // vision.patch_size, width // vision.patch_size
    if (rows, columns) != (grid, grid):
        table = nn.functional.interpolate(
            table.permute(0, 3, 1, 2), size=(rows, columns), mode="bicubic", align_corners=False
        ).permute(0, 2, 3, 1)
    if frames == 1:
        table = table[:1]
    elif frames != known:
        flat = table.reshape(known, rows * columns, dim).permute(1, 2, 0)  # (place, dim, time)
        flat = nn.functional.interpolate(flat, size=frames, mode="linear", align_corners=False)
        table = flat.permute(2, 0, 1)
    return table.reshape(1, frames * rows * columns, dim)


AutoConfig.register("videochat2", VideoChat2Config)
