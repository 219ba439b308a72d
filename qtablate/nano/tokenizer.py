"""nano's tokenizer: byte-level BPE in which every word of the world is one token and anything else falls back to bytes.

The merges are written down rather than learned: each word is the chain of its prefixes. So the same words always give
the same file, and text from outside the world (a real question, say) still has an encoding.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qtablate.prompts.segments import DESCRIBE, NANO_FORM
from qtablate.seeds import Rng
from qtablate.world.captions import caption
from qtablate.world.questions import image_questions, questions
from qtablate.world.scenarios import simulate, still_life

SPECIAL = ("<s>", "</s>", "<video>", "</video>", "<image>", "</image>", "<q>", "<a>")


def world_words() -> list[str]:
    """Every word and sign that the world's questions, answers and captions use, sorted."""
    texts = [DESCRIBE]
    for number in range(3000):
        rng = Rng("pretrain", "words", number)
        still = number % 4 == 0
        scene = still_life(rng) if still else simulate(rng)
        texts.append(caption(scene))
        for question in image_questions(scene, rng) if still else questions(scene, rng):
            texts += [question.text, *question.options]
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return sorted({word for text in set(texts) for word, _ in splitter.pre_tokenize_str(text.lower())})


def build(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is the markers, the 256 bytes and the words' prefixes."""
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
    form = NANO_FORM
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=form.opening,
        eos_token=form.end,
        pad_token=form.end,
        additional_special_tokens=list(SPECIAL[2:]),
    )
