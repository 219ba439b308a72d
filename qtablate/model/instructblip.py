"""InstructBLIP-Video as transformers has it, with extra query tokens: each frame passes vision tower and Q-Former alone, and
the tokens of all frames stand one after another (arXiv 2305.06500)."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import InstructBlipVideoForConditionalGeneration

from qtablate.errors import ModelError
from qtablate.model.family import Family


class InstructBlipVideoModel(Family, InstructBlipVideoForConditionalGeneration):
    """transformers' class; without extra query tokens its own `forward` and `generate` give the same numbers as the parts
    here. The Q-Former reads the question, so visual tokens are made for every (clip, question)."""

    bridge = ("qformer", "language_projection")

    def __init__(self, config: Any) -> None:
        if not config.use_decoder_only_language_model:
            raise ModelError(
                f"its language model, a {config.text_config.model_type}, has an encoder; expected one that only decodes "
                "(Vicuna, Llama, OPT), since answers are scored as continuations"
            )
        super().__init__(config)
        extra = getattr(config, "extra_num_query_tokens", 0)
        config.extra_num_query_tokens = extra
        if extra:
            self.extra_query_tokens = nn.Parameter(torch.zeros(1, extra, config.qformer_config.hidden_size))

    @property
    def num_visual_tokens(self) -> int:
        return self.num_queries * int(self.config.num_frames)

    def tokens_of(self, features: Tensor) -> int:
        return self.num_queries * (features.shape[0] // self._patches)

    @property
    def _patches(self) -> int:
        """Features of a frame, its class token included."""
        vision = self.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + 1)

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        clips, frames, _, height, width = pixel_values.shape
        side = self.config.vision_config.image_size
        if (height, width) != (side, side):
            raise ModelError(f"frames are {height} x {width} pixels, this vision tower takes {side} x {side}")
        out = self.vision_model(pixel_values=pixel_values.flatten(0, 1)).last_hidden_state  # (B * T, patches, D)
        return cast(Tensor, out.reshape(clips, frames * out.shape[1], out.shape[2]))

    def visual_tokens(
        self, features: Tensor, queries: Tensor | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        if text is None:
            raise ModelError("InstructBLIP's Q-Former reads the question: visual tokens cannot be made without it")
        clips, frames = len(features), features.shape[1] // self._patches
        seen = features.reshape(clips * frames, self._patches, features.shape[2])
        ids, mask = (part.repeat_interleave(frames, dim=0) for part in text)
        tokens = self.language_projection(self.look(seen, queries, (ids, mask)))
        return cast(Tensor, tokens.reshape(clips, frames * tokens.shape[1], -1))
