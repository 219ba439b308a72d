"""Telling a job that ran out of memory from one that failed otherwise, without importing torch."""

import errno

_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""In messages of CUDA, of torch's allocator for CPUs, of the system, and of cuBLAS and cuDNN. Accelerate's own list
(should_reduce_batch_size) lacks most of them, and importing it imports torch."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, of the machine or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
