"""InstructBLIP-Video as transformers has it, with extra query tokens (arXiv 2305.06500).

Each frame passes vision tower and Q-Former alone, and the tokens of all frames are concatenated. Shapes as in video_lm.py:
B clips, T frames, N patch tokens of a clip (T times those of a frame), Q visual tokens of a clip, L text tokens, D widths.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import InstructBlipVideoForConditionalGeneration

from qtablate.errors import ModelError
from qtablate.model.encode import QFormerInputs
from qtablate.model.video_lm import VideoLM


class InstructBlipVideoModel(VideoLM, InstructBlipVideoForConditionalGeneration):
    """transformers' class as a VideoLM; without extra query tokens its own `forward` and `generate` give the same numbers.

    The Q-Former reads the question, so visual tokens are computed for every (clip, question).
    """

    connector_modules = ("qformer", "language_projection")

    def __init__(self, config: Any) -> None:
        if not config.use_decoder_only_language_model:
            raise ModelError(
                f"its language model, a {config.text_config.model_type}, has an encoder; expected a decoder-only one "
                "(Vicuna, Llama, OPT), since answers are scored as continuations"
            )
        super().__init__(config)
        extra = getattr(config, "extra_num_query_tokens", 0)
        config.extra_num_query_tokens = extra
        if extra:
            self.extra_query_tokens = nn.Parameter(torch.zeros(1, extra, config.qformer_config.hidden_size))

    @property
    def num_visual_tokens(self) -> int:
        """Number of visual tokens of a video of config.num_frames frames."""
        return self.num_queries * int(self.config.num_frames)

    def count_visual_tokens(self, features: Tensor) -> int:
        """Count the visual tokens that one clip's (N, D) features become: all queries for each frame."""
        return self.num_queries * (features.shape[0] // self._features_per_frame)

    @property
    def _features_per_frame(self) -> int:
        """Number of features of a frame, its class token included."""
        vision = self.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + 1)

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Run the vision tower on each frame: (B, T, 3, H, W) normalized pixels -> (B, N, D) features.

        Raises:
            ModelError: frames are not of the tower's size.
        """
        clips, frames, _, height, width = pixel_values.shape
        size = self.config.vision_config.image_size
        if (height, width) != (size, size):
            raise ModelError(f"frames are {height} x {width} pixels, this vision tower takes {size} x {size}")
        out = self.vision_model(pixel_values=pixel_values.flatten(0, 1)).last_hidden_state  # (B * T, N / T, D)
        return cast(Tensor, out.reshape(clips, frames * out.shape[1], out.shape[2]))

    def visual_tokens(self, features: Tensor, queries: Tensor | None = None, text: QFormerInputs | None = None) -> Tensor:
        """Run the connector on each frame: (B, N, D) features -> (B, Q, D) tokens, frame by frame.

        Raises:
            ModelError: there is no text.
        """
        if text is None:
            raise ModelError("InstructBLIP's Q-Former reads the question: visual tokens cannot be computed without it")
        clips, frames = len(features), features.shape[1] // self._features_per_frame
        per_frame = features.reshape(clips * frames, self._features_per_frame, features.shape[2])
        repeated = QFormerInputs(*(part.repeat_interleave(frames, dim=0) for part in text))  # (B * T, L)
        tokens = self.language_projection(self.run_qformer(per_frame, queries, repeated))
        return cast(Tensor, tokens.reshape(clips, frames * tokens.shape[1], -1))
