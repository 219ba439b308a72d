"""What every family of models offers to training and evaluation, and which families there are.

A new family is one file: a transformers model that is a `Family` too, and one row in FAMILIES. Three show how:
videochat2.py (one Q-Former over all frames), instructblip.py (transformers' own class; one Q-Former pass a frame) and
assembled.py (any vision tower, any language model).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, InstructBlipQFormerModel, PreTrainedModel

PLAIN_HEADS = ("llama", "mistral", "qwen2", "phi3")
"""Language models whose logits are a linear map of their last hidden state, nothing scaled or capped."""


class Family(nn.Module):
    """Mixed into a transformers model. Shapes: B clips, T frames, N patch tokens, Q visual tokens, L text tokens."""

    config: Any
    device: torch.device
    query_tokens: nn.Parameter
    extra_query_tokens: nn.Parameter
    """Exists only where config.extra_num_query_tokens is above 0."""
    language_model: Any
    qformer: nn.Module
    projection: nn.Module
    bridge: tuple[str, ...] = ("qformer", "projection")
    """Parts between vision tower and language model; with the queries they are what a cell trains."""

    @abstractmethod
    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """(B, T, 3, H, W) normalised pixels -> (B, N, D) features of the frozen vision tower; T = 1 is an image. They are
        computed once a clip and kept, so nothing that is trained may stand before them."""

    @abstractmethod
    def visual_tokens(
        self, features: Tensor, queries: Tensor | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(B, N, D) features -> (B, Q, D) tokens in the language model's space, by the model's own queries or others.
        `text`, (B, L) ids and (B, L) mask, is what the Q-Former reads beside the queries."""

    def look(self, seen: Tensor, queries: Tensor | None, text: tuple[Tensor, Tensor] | None) -> Tensor:
        """What the queries find: one pass of the Q-Former over what it may see, (B, N, D) -> (B, Q, D). `queries` and `text` as
        in visual_tokens."""
        queries = (self.queries() if queries is None else queries).expand(len(seen), -1, -1)
        ids, mask = (part.to(seen.device) for part in text) if text else (None, None)
        if mask is not None:
            mask = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)
        out = self.qformer(input_ids=ids, attention_mask=mask, query_embeds=queries, encoder_hidden_states=seen)
        return cast(Tensor, out.last_hidden_state[:, : queries.shape[1]])

    def tokens_of(self, features: Tensor) -> int:
        """How many visual tokens a clip's features (N, D) become."""
        return self.num_queries

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens of a video of config.num_frames frames."""
        return self.num_queries

    @property
    def num_queries(self) -> int:
        return int(self.config.num_query_tokens + self.config.extra_num_query_tokens)

    def queries(self) -> Tensor:
        """All queries, base then extra: (1, Q, D)."""
        if self.config.extra_num_query_tokens:
            return torch.cat([self.query_tokens, self.extra_query_tokens], dim=1)
        return self.query_tokens

    def embed(self, input_ids: Tensor, visual: Sequence[Tensor] = (), at: Tensor | None = None) -> Tensor:
        """(B, L) ids -> (B, L, D); the places where `at` (B, L) is true take the rows of `visual`, one (Q, D) a sequence, in
        order (a sequence that was cut may have fewer places than rows)."""
        table = self.language_model.get_input_embeddings()
        embeds = cast(Tensor, table(input_ids.to(table.weight.device)))
        if at is None:
            return embeds
        rows = torch.cat([own[:count] for own, count in zip(visual, at.sum(1).tolist(), strict=True)])
        return embeds.masked_scatter(at[..., None].to(embeds.device), rows.to(embeds.dtype))

    def logits_at(self, embeds: Tensor, at: Tensor, **arguments: Any) -> tuple[Tensor, Any]:
        """(B, L, D) embeddings, (B, L) bool -> (n, V) logits of the marked places, row by row, and the cache if asked for.

        A vocabulary is wide and few places are wanted: where the language model is known to end in a plain linear head,
        only these places pass it. Others give all logits, of which these are picked.
        """
        inner, at = self.language_model, at.to(embeds.device)
        if inner.config.model_type in PLAIN_HEADS:
            out = inner.get_decoder()(inputs_embeds=embeds, **arguments)
            return cast(Tensor, inner.get_output_embeddings()(out.last_hidden_state[at])), out.past_key_values
        out = inner(inputs_embeds=embeds, **arguments)
        return cast(Tensor, out.logits[at]), out.past_key_values


class Container(Family, PreTrainedModel):
    """A family whose vision tower stands in front of parts that all of them build alike."""

    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_attention_backend = True

    def build_behind(self, config: Any) -> None:
        """Q-Former, queries, language model and the projection between the two, as config describes them."""
        self.qformer = InstructBlipQFormerModel(config.qformer_config)
        width = config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        if config.extra_num_query_tokens:
            self.extra_query_tokens = nn.Parameter(torch.zeros(1, config.extra_num_query_tokens, width))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.projection = nn.Linear(width, self.language_model.get_input_embeddings().embedding_dim)
