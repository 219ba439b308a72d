"""How different the extra query tokens are from one another after training."""

import torch
from torch import Tensor

from qtablate.model.similarity import cosine, effective_rank
from qtablate.model.video_lm import VideoLM
from qtablate.records import QueryDiversity


def query_diversity(model: VideoLM, initial_queries: Tensor, features: Tensor) -> QueryDiversity:
    """Return the diversity of the extra queries and of the visual tokens that they become.

    Args:
        model: with extra queries.
        initial_queries: (1, Q, D) all queries before training.
        features: (B, N, D) of the clips that visual tokens are taken from.
    """
    base = model.config.num_query_tokens
    extra = model.extra_query_tokens.detach()[0]
    with torch.inference_mode():
        visual = model.visual_tokens(features.to(model.device))[:, base:].float()
    moved = (model.queries().detach() - initial_queries)[0].norm(dim=-1)
    return QueryDiversity(
        effective_rank(extra),
        cosine(extra),
        effective_rank(visual),
        cosine(visual),
        float(moved[base:].mean()),
        float(moved[:base].mean()),
    )
