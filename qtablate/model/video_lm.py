"""The interface that every family of models offers to training and evaluation.

A new family is one file, with a transformers model that is a `VideoLM` too, and one row in FAMILIES (directory.py). Three
show how: videochat2.py (one Q-Former over all frames), instructblip.py (transformers' own class; one Q-Former pass per frame)
and assembled_model.py (any vision tower, any language model).

Shapes, the same in all of model/: B clips, T frames, N patch tokens, Q visual tokens (queries), L text tokens, D a width
(each part has its own), H and W pixels, V the vocabulary.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, InstructBlipQFormerModel, PreTrainedModel

from qtablate.model.encode import QFormerInputs

PLAIN_HEAD_TYPES = ("llama", "mistral", "qwen2", "phi3")
"""model_type of language models whose logits are a linear map of their last hidden state, not scaled or capped."""


class VideoLM(nn.Module):
    """Mixed into a transformers model: vision tower -> connector with learnable queries -> language model."""

    config: Any
    device: torch.device
    query_tokens: nn.Parameter
    """(1, Q, D) base queries."""
    extra_query_tokens: nn.Parameter
    """(1, Q, D) extra queries; exists only where config.extra_num_query_tokens is above 0."""
    language_model: Any
    qformer: nn.Module
    projection: nn.Module
    connector_modules: tuple[str, ...] = ("qformer", "projection")
    """Modules between vision tower and language model; with the queries they are what a cell trains."""

    @abstractmethod
    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Run the frozen vision tower: (B, T, 3, H, W) normalized pixels -> (B, N, D) features; T = 1 is an image.

        Features are computed once per clip and cached, so nothing that is trained may come before them.
        """

    @abstractmethod
    def visual_tokens(self, features: Tensor, queries: Tensor | None = None, text: QFormerInputs | None = None) -> Tensor:
        """Run the connector: (B, N, D) features -> (B, Q, D) tokens in the language model's embedding space.

        Args:
            queries: (1, Q, D) or (B, Q, D); None: the model's own.
            text: what the Q-Former reads beside the queries, for models whose Q-Former reads text.
        """

    def run_qformer(self, features: Tensor, queries: Tensor | None, text: QFormerInputs | None) -> Tensor:
        """Run the Q-Former once: (B, N, D) features -> (B, Q, D) outputs. Arguments as in `visual_tokens`."""
        queries = (self.queries() if queries is None else queries).expand(len(features), -1, -1)
        ids = mask = None
        if text is not None:
            ids, mask = text.input_ids.to(features.device), text.attention_mask.to(features.device)
            mask = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)  # (B, Q + L)
        out = self.qformer(input_ids=ids, attention_mask=mask, query_embeds=queries, encoder_hidden_states=features)
        return cast(Tensor, out.last_hidden_state[:, : queries.shape[1]])

    def count_visual_tokens(self, features: Tensor) -> int:
        """Count the visual tokens that one clip's (N, D) features become."""
        return self.num_queries

    @property
    def num_visual_tokens(self) -> int:
        """Number of visual tokens of a video of config.num_frames frames."""
        return self.num_queries

    @property
    def num_queries(self) -> int:
        """Number of base and extra queries."""
        return int(self.config.num_query_tokens + self.config.extra_num_query_tokens)

    def queries(self) -> Tensor:
        """Return all queries, base then extra: (1, Q, D)."""
        if self.config.extra_num_query_tokens:
            return torch.cat([self.query_tokens, self.extra_query_tokens], dim=1)
        return self.query_tokens

    def embed(self, input_ids: Tensor, visual: Sequence[Tensor] = (), visual_mask: Tensor | None = None) -> Tensor:
        """Embed tokens: (B, L) ids -> (B, L, D), with visual tokens in their places.

        Args:
            visual: (Q, D) visual tokens of each sequence; a truncated sequence may have fewer places than rows.
            visual_mask: (B, L) bool, the places of the visual tokens.
        """
        table = self.language_model.get_input_embeddings()
        embeds = cast(Tensor, table(input_ids.to(table.weight.device)))
        if visual_mask is None:
            return embeds
        rows = torch.cat([tokens[:count] for tokens, count in zip(visual, visual_mask.sum(1).tolist(), strict=True)])
        return embeds.masked_scatter(visual_mask[..., None].to(embeds.device), rows.to(embeds.dtype))

    def logits_at(self, embeds: Tensor, mask: Tensor, **arguments: Any) -> tuple[Tensor, Any]:
        """Run the language model: (B, L, D) embeddings -> (n, V) logits at the n marked positions, and the cache if any.

        A vocabulary is wide and few positions are needed: where the language model is known to end in a plain linear head,
        only these positions pass it. Other models give all logits, of which these are selected.

        Args:
            mask: (B, L) bool, the positions whose logits are returned, row by row.
            arguments: of the language model's forward pass.
        """
        language_model, mask = self.language_model, mask.to(embeds.device)
        if language_model.config.model_type in PLAIN_HEAD_TYPES:
            out = language_model.get_decoder()(inputs_embeds=embeds, **arguments)
            head = language_model.get_output_embeddings()
            return cast(Tensor, head(out.last_hidden_state[mask])), out.past_key_values
        out = language_model(inputs_embeds=embeds, **arguments)
        return cast(Tensor, out.logits[mask]), out.past_key_values


class ComposedModel(VideoLM, PreTrainedModel):
    """A family that is composed here: its own vision tower, and connector and language model that all of them build alike."""

    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_attention_backend = True

    def build_connector_and_language_model(self, config: Any) -> None:
        """Create Q-Former, queries, language model and the projection between the two, as config describes them."""
        self.qformer = InstructBlipQFormerModel(config.qformer_config)
        width = config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        if config.extra_num_query_tokens:
            self.extra_query_tokens = nn.Parameter(torch.zeros(1, config.extra_num_query_tokens, width))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.projection = nn.Linear(width, self.language_model.get_input_embeddings().embedding_dim)
