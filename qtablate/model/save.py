"""Writing model directories: whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtablate.errors import ModelError
from qtablate.model.load import QFORMER_TOKENIZER, TOKENIZER_FILES, TOKENIZERS, reading, tokenizer


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`; it takes that name when the block ends without an error. Raises ModelError when `out`
    is there already and not empty."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ModelError(f"{out} is there already; name a new folder, nothing is written over")
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tokenizer(source: Path, out: Path) -> None:
    """Copy a tokenizer that has its tokenizer.json, so that nothing of it changes; make one of an older tokenizer's files.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    found = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not set(TOKENIZERS) & set(found):
        raise ModelError(f"{source} holds no tokenizer: expected one of {', '.join(TOKENIZERS)}")
    read = tokenizer(source)
    if "tokenizer.json" in found:
        for name in found:
            shutil.copyfile(source / name, out / name)
    else:
        read.save_pretrained(out)


def write_qformer_tokenizer(source: Path, out: Path) -> int:
    """BERT's tokenizer with the original's [DEC] added as its beginning of a text. Returns how many tokens it has.

    Raises:
        ModelError: `source` holds none.
    """
    from transformers import BertTokenizer

    if not any((source / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise ModelError(f"{source} holds no BERT tokenizer: expected vocab.txt or tokenizer.json")
    with reading(f"--bert: {source}"):
        words = BertTokenizer.from_pretrained(str(source), local_files_only=True)
    words.add_special_tokens({"bos_token": "[DEC]"})
    words.save_pretrained(out / QFORMER_TOKENIZER)
    return len(words)
