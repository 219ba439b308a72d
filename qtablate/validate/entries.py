"""Check single items and samples: their candidates, texts and conversations, and whether they repeat one another."""

from collections import Counter
from collections.abc import Iterable, Iterator

from qtablate.data.texts import LONG_TEXT, control_characters
from qtablate.datatypes import Item, Sample
from qtablate.prompts.registry import FORMATS
from qtablate.validate import findings as kinds
from qtablate.validate.findings import Finding
from qtablate.validate.text_bias import normalize_text

_MARKERS = tuple(dict.fromkeys(marker for conversation in FORMATS.values() for marker in conversation.reserved_strings))


def check_item(item: Item) -> Iterator[Finding]:
    """Check one item's candidates and texts."""
    yield from _check_candidates(item)
    yield from _check_texts(item.id, [("question", item.question), *(("candidate", option) for option in item.options)])


def check_sample(sample: Sample) -> Iterator[Finding]:
    """Check one sample's conversation."""
    name = f"sample {sample.id}"
    if not any(question for question, _ in sample.pairs):
        yield Finding(kinds.NO_QUESTION, name, f"answers: {len(sample.pairs)}; 'i' is {sample.instruction!r:.60}")
    for number, (question, answer) in enumerate(sample.pairs):
        if not answer:
            yield Finding(kinds.EMPTY_ANSWER, name, f"answer {number} is empty; its question is {question!r:.60}")
    # an empty question of a pair is no problem of the text: captions have it
    pairs = [text for question, answer in sample.pairs for text in (("question of a pair", question), ("answer", answer))]
    yield from _check_texts(name, [("instruction", sample.instruction), *pairs])


def _check_candidates(item: Item) -> Iterator[Finding]:
    """Check one item's candidates; those equal to the gold answer have been refused by the reader."""
    texts = [normalize_text(option) for option in item.options]
    counts = Counter(texts)
    gold = texts[item.answer]
    listed = f"{list(item.options)!r:.80}"
    if counts[gold] > 1:
        detail = f"{item.options[item.answer]!r:.40} occurs in another spelling as well: {listed}"
        yield Finding(kinds.GOLD_EQUIVALENT, item.id, detail)
    if any(number > 1 for text, number in counts.items() if text != gold):
        yield Finding(kinds.DUPLICATE_CANDIDATES, item.id, listed)
    if len(texts) == 1:
        yield Finding(kinds.SINGLE_CANDIDATE, item.id, listed)


def _check_texts(name: str, texts: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Check the texts of one item or sample, each given with its role."""
    for role, text in texts:
        if role == "question" and not text.strip():
            yield Finding(kinds.EMPTY_QUESTION, name, f"{text!r:.40}")
        if control := control_characters(text):
            yield Finding(kinds.CONTROL_CHARACTERS, name, f"{role}: {', '.join(map(ascii, control))}")
        if markers := [marker for marker in _MARKERS if marker in text]:
            yield Finding(kinds.MARKERS, name, f"{role}: {', '.join(map(repr, markers))}")
        if len(text) > LONG_TEXT:
            yield Finding(kinds.VERY_LONG_TEXT, name, f"{role}: {len(text):,} characters")


def find_duplicate_items(items: Iterable[Item]) -> Iterator[Finding]:
    """Find items with one clip, one question and the same candidates in any order."""
    seen: dict[object, Item] = {}
    for item in items:
        candidates = tuple(sorted(map(normalize_text, item.options)))
        first = seen.setdefault((item.clip, normalize_text(item.question), candidates), item)
        gold, first_gold = item.options[item.answer], first.options[first.answer]
        if first is not item and normalize_text(gold) == normalize_text(first_gold):
            yield Finding(kinds.DUPLICATE_ITEM, item.id, f"the same clip, question and candidates as {first.id}")
        elif first is not item:
            yield Finding(kinds.CONFLICTING_ANSWERS, item.id, f"{gold!r:.40} here, {first_gold!r:.40} in {first.id}")


def find_duplicate_samples(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Find samples with one clip and one conversation."""
    seen: dict[object, str] = {}
    for sample in samples:
        first = seen.setdefault((sample.medium, sample.clip, sample.instruction, sample.pairs), sample.id)
        if first != sample.id:
            detail = f"the same clip and conversation as sample {first}"
            yield Finding(kinds.DUPLICATE_SAMPLE, f"sample {sample.id}", detail)
