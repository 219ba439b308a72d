"""Writing model directories: complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtablate.errors import ModelError
from qtablate.model.directory import QFORMER_TOKENIZER, TOKENIZER_FILES, TOKENIZERS, unreadable_as_model_error
from qtablate.model.load import load_tokenizer


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which is renamed to `out` when the block ends without an error.

    Raises:
        ModelError: `out` exists and is not an empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ModelError(f"{out} exists already; name a new folder, nothing is overwritten")
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_tokenizer(source: Path, out: Path) -> None:
    """Copy a tokenizer that has a tokenizer.json, so that nothing changes; convert an older tokenizer's files to one.

    Raises:
        ModelError: the source holds no tokenizer, or one that cannot be read.
    """
    files = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not set(TOKENIZERS) & set(files):
        raise ModelError(f"{source} holds no tokenizer: expected one of {', '.join(TOKENIZERS)}")
    tokenizer = load_tokenizer(source)
    if "tokenizer.json" in files:
        for name in files:
            shutil.copyfile(source / name, out / name)
    else:
        tokenizer.save_pretrained(out)


def save_qformer_tokenizer(source: Path, out: Path) -> int:
    """Save BERT's tokenizer with VideoChat2's [DEC] added as its beginning-of-text token.

    Returns:
        The number of its tokens.

    Raises:
        ModelError: the source holds no BERT tokenizer.
    """
    from transformers import BertTokenizer

    if not any((source / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise ModelError(f"{source} holds no BERT tokenizer: expected vocab.txt or tokenizer.json")
    with unreadable_as_model_error(f"--bert: {source}"):
        tokenizer = BertTokenizer.from_pretrained(str(source), local_files_only=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.save_pretrained(out / QFORMER_TOKENIZER)
    return len(tokenizer)
