"""The VideoChat2 container out of stock transformers modules.

video -> VideoMAE-type encoder -> Q-Former with learnable queries -> linear projection -> causal language model.
Sources: OpenGVLab/Ask-Anything video_chat2 (facts only); the Q-Former is transformers' InstructBLIP one.
Shapes: B clips, T frames, N patch tokens, Q queries, L text tokens, D widths.
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

from qtablate.model.family import Container

VISION_NORM_EPS = 1e-12  # vision_layernorm of the original; the config of VideoMAE has one eps for all its norms


class VideoChat2Config(PreTrainedConfig):
    """What the container is made of. `extra_num_query_tokens` = 0 means that the parameter does not exist."""

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
    position_frames: int = 4
    """Frames of the sinusoid table that other lengths are interpolated from (always 4 in the original)."""
    position_image_size: int | None = None
    """Pixels a side that the table is made for (224 in the original); None: as vision_config says. Where clips are shown in
    another size, the table is interpolated."""
    num_frames: int = 8
    """Frames sampled from a clip."""
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    conversation: str = "nano"
    """Turn markers: a name in qtablate.prompts.segments.formats()."""
    qformer_text: bool = False
    """Whether the Q-Former reads text (the original's qformer_text_input); its tokenizer lies in `qformer_tokenizer/`."""
    max_txt_len: int = 512
    """Tokens of text in a training sequence at most, and of what the Q-Former reads."""
    bos_as_value: bool = False
    """The original trains with its bos token's number in place of that token's embedding (not at inference). Off: the
    embedding."""
    qformer_padded_left: bool = False
    """The original pads the Q-Former's text on the left, and positions count the padding: a sample's visual tokens depend on
    what it is batched with. Off: they do not."""
    supervise_end: bool = True
    """The original's stage 2 never supervises the end of an answer, since its padding is the same token."""
    tell_seconds: bool = False
    """Whether the conversation says when the frames of a video were sampled (the original's add_second_msg)."""
    qformer_drop_path: float = 0.0
    """Rate in the Q-Former's last layer, rising linearly from 0 in the first (the original trains with 0.2)."""
    query_init_std: float = 0.02
    learning_rate: float = 2e-5
    """Peak rate that a sweep takes when none is given (the original's stage 3)."""
    fresh_parts: list[str] | None = None
    """Parts that a cell starts anew, from its seed (an alignment-stage base); empty: all parts come from the file."""


class VideoChat2Model(Container):
    """The model."""

    config_class = VideoChat2Config
    base_model_prefix = "videochat2"
    _no_split_modules = ["VideoMAELayer", "InstructBlipQFormerLayer"]  # noqa: RUF012

    def __init__(self, config: VideoChat2Config) -> None:
        super().__init__(config)
        self.vision = VideoMAEModel(config.vision_config)
        cast(nn.LayerNorm, self.vision.layernorm).eps = VISION_NORM_EPS
        self.build_behind(config)
        drop_paths(self.qformer, config.qformer_drop_path)
        self._tables: dict[tuple[int, int, int, torch.device, torch.dtype], Tensor] = {}
        self.post_init()

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """(B, T, 3, H, W) normalised pixels -> (B, N, D) patch features after vision_layernorm; T = 1 is an image."""
        _, frames, _, height, width = pixel_values.shape
        embeddings = self.vision.embeddings
        embeddings.patch_embeddings.image_size = (height, width)
        embeddings.position_embeddings = self._positions(frames, height, width)
        return cast(Tensor, self.vision(pixel_values=pixel_values).last_hidden_state)

    def visual_tokens(
        self, features: Tensor, queries: Tensor | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """See Family; the text is VideoChat2's instruction."""
        return cast(Tensor, self.projection(self.look(features, queries, text)))

    def _positions(self, frames: int, height: int, width: int) -> Tensor:
        """Position table (1, T * h * w, D), kept a size. It is in no state dict, so it is made here when first needed."""
        patches = cast(Any, self.vision.embeddings).patch_embeddings.projection.weight
        key = (frames, height, width, patches.device, patches.dtype)
        if key not in self._tables:
            table = position_table(cast(VideoChat2Config, self.config), frames, height, width)
            self._tables[key] = table.to(device=patches.device, dtype=patches.dtype)
        return self._tables[key]


class DropPath(nn.Module):
    """Leaves out a branch for whole samples, and scales the others up (Huang et al. 2016, arXiv 1603.09382)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        kept = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) >= self.p
        return x * kept / (1 - self.p)


def drop_paths(qformer: nn.Module, rate: float) -> None:
    """Put DropPath behind every dropout that stands before a residual norm. transformers' Q-Former has none; it has no
    parameters, so names and weights stay as they are."""
    layers = cast(nn.ModuleList, cast(Any, qformer).encoder.layer)
    for number, layer in enumerate(layers):
        own = rate * number / max(1, len(layers) - 1)
        for name, part in layer.named_modules():
            if own and name.endswith(("output", "output_query")) and isinstance(getattr(part, "dropout", None), nn.Dropout):
                part.dropout = nn.Sequential(part.dropout, DropPath(own))


def position_table(config: VideoChat2Config, frames: int, height: int, width: int) -> Tensor:
    """Sinusoid positions for `frames` frames of height x width pixels, interpolated from the checkpoint's own size.

    Space first (bicubic), then time (linear), both with align_corners False; one frame takes the table's first frame.
    Source: Ask-Anything video_chat2 `models/umt/vit.py`, restated in shared facts.

    Returns:
        (1, T * h * w, D) float32.
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
