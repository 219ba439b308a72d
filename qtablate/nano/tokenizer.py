"""nano's tokenizer: byte-level BPE in which every word of the world is one token and all other text falls back to bytes.

The merges are constructed rather than learned: each word is merged from its prefixes. The same words therefore always give
the same file, and text from outside of the world (a real question, for example) still has an encoding.
"""

from collections.abc import Iterable
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qtablate.prompts.registry import NANO_FORMAT
from qtablate.prompts.types import CAPTION_QUESTION
from qtablate.seeds import Rng
from qtablate.world.captions import caption
from qtablate.world.questions import image_questions, questions
from qtablate.world.scenarios import random_scene, static_scene

SPECIAL = ("<s>", "</s>", "<video>", "</video>", "<image>", "</image>", "<q>", "<a>")
"""Special tokens; their ids are their positions."""


@cache
def world_words() -> tuple[str, ...]:
    """Return every word and punctuation mark of the world's questions, options and captions, sorted."""
    texts = [CAPTION_QUESTION]
    for number in range(3000):
        rng = Rng("pretrain", "words", number)
        is_image = number % 4 == 0
        scene = static_scene(rng) if is_image else random_scene(rng)
        texts.append(caption(scene))
        for question in image_questions(scene, rng) if is_image else questions(scene, rng):
            texts += [question.text, *question.options]
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tuple(sorted({word for text in set(texts) for word, _ in splitter.pre_tokenize_str(text.lower())}))


def build(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build the tokenizer. Its vocabulary is SPECIAL, the 256 bytes and the prefixes of the words."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    form = NANO_FORMAT
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=form.opening,
        eos_token=form.end,
        pad_token=form.end,
        additional_special_tokens=list(SPECIAL[2:]),
    )
