"""A model in fp64, for comparisons whose tolerance is near 1e-12."""

from typing import TypeVar

from torch import nn

from qtablate.audit.target import norm_in_own_dtype

Model = TypeVar("Model", bound=nn.Module)


def in_fp64(model: Model) -> Model:
    """Convert a model to fp64, its RMSNorm layers too, and return it.

    tests/model/test_golden.py does without: VideoChat2's numbers came from transformers' own RMSNorm.
    """
    model.double()
    norm_in_own_dtype(model)
    return model
