"""Which errors say that there is no memory left."""

import errno

import numpy as np
import pytest
import torch

from qtablate.execute.out_of_memory import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),  # a text that quotes one
        (SystemExit(1), False),
    ],
)
def test_an_error_says_that_there_is_no_memory_or_it_does_not(error, memory):
    assert is_out_of_memory(error) is memory


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 60), lambda: np.empty(1 << 58)], ids=["torch", "numpy"])
def test_errors_of_the_libraries_are_known(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)
