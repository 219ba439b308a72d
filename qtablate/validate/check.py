"""A look at data files before anything is trained: what would be left out, and what would make a score misleading.

It reads through the same readers as a sweep and takes their problems as findings, decodes each clip as a sweep would and
then as a whole (or reads the headers alone), and looks at what every reader accepts. Nothing is printed or changed.

What it cannot tell: whether an MPEG program or transport stream (mpg, vob, ts) was cut between two of its packets, since
neither says how long it should be; within a packet it can. A wmv or asf file says how long it is, unless it was broadcast.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median

from qtablate.data import findings as kinds
from qtablate.data.findings import Finding
from qtablate.data.instructions import InstructionFile
from qtablate.data.mvbench import MVBench
from qtablate.data.texts import LONG, control_characters
from qtablate.datatypes import Item, Problem, Sample
from qtablate.errors import DataError
from qtablate.prompts.registry import FORMATS
from qtablate.validate import media
from qtablate.validate.text_bias import Order, Prior, chance, order, plain, positions, positions_p, prior

SIDE = 224  # pixels a side that clips are decoded at, the original's
SORTED_SHARE, SORTED_Z = 0.5, 4.0  # halfway from a random order to one block a label, and surely so
PRIOR_Z = 4.0  # above chance; the guess is drawn from the answers it is scored on, so random ones pass 3 in 1 of 100 tasks
POSITIONS_P = 0.01  # over all tasks together (Bonferroni)

_MARKERS = tuple(dict.fromkeys(mark for form in FORMATS.values() for mark in form.reserved_strings))

Followed = Callable[[Sequence[str]], Iterable[str]]
"""Gives back what it is given, one by one, and may show how far it is."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """What one task of a benchmark is like; the figures are those of its usable items, and None without any."""

    task: str
    entries: int
    usable: int
    clips: int
    candidates: tuple[int, int] | None = None
    """The fewest and the most."""
    chance: float | None = None
    prior: Prior | None = None
    positions: tuple[int, ...] = ()
    positions_p: float | None = None
    text_order: Order | None = None
    place_order: Order | None = None


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What the samples of one folder and medium are like."""

    source: str
    """The first folder in the clips' names; a dot where they lie in none."""
    medium: str
    samples: int
    clips: int
    pairs: tuple[int, float, int]
    """Questions and answers of a sample: the fewest, the median, the most."""
    unasked: int
    """Samples without any question."""
    empty: int
    """Answers without a word."""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Everything that was found."""

    findings: tuple[Finding, ...]
    """Errors first."""
    entries: int
    usable: int
    clips: int
    decoded: bool
    """Or headers alone were read."""
    untold: int = 0
    """Videos whose headers tell no length, where headers alone were read."""
    tasks: tuple[TaskSummary, ...] = ()
    sources: tuple[SourceSummary, ...] = ()

    def count(self, severity: str) -> int:
        return sum(found.severity == severity for found in self.findings)


def check_benchmark(directory: str, wanted: int, decode: bool = True, followed: Followed = iter) -> ValidationReport:
    """A folder in MVBench's format. `wanted`: frames a clip. Raises DataError where it cannot be read as a whole."""
    bench = MVBench(directory, wanted, SIDE)
    users = _users((item.clip, item.id) for item in bench.items)
    found, lost, untold = _files(bench, [*bench.problems, *bench.oddities], users, wanted, followed if decode else None)
    tasks: dict[str, list[Item]] = {task: [] for task in bench.tasks}
    for item in bench.items:
        if item.clip not in lost:
            tasks[item.task].append(item)
            found += [
                *_options(item),
                *_texts(item.id, [("question", item.question), *(("candidate", o) for o in item.options)]),
            ]
    found += _same_items([item for items in tasks.values() for item in items])
    entries = Counter(dict.fromkeys(bench.tasks, 0))
    entries.update(item.task for item in bench.items)
    entries.update(problem.subject.rpartition("-")[0] for problem in bench.problems)
    health = tuple(_task(task, number, tasks[task]) for task, number in entries.items())
    for task in health:
        found += _of_task(task, len(health))
    usable = sum(task.usable for task in health)
    return ValidationReport(kinds.by_severity(found), entries.total(), usable, len(users), decode, untold, health)


def check_training(
    file: str, media_root: str, wanted: int, decode: bool = True, followed: Followed = iter, bench: str = ""
) -> ValidationReport:
    """A file in VideoChat2-IT's form; with `bench`, its clips against those of that folder. Raises DataError."""
    if not Path(file).exists():
        raise DataError(f"no file {file}; expected a json list of conversations")
    data = InstructionFile(file, media_root, wanted, SIDE, may_be_empty=True, named="")
    users = _users((sample.clip, f"sample {sample.id}") for sample in data.samples)
    leaks = list(media.leaks(data, users, MVBench(bench, wanted, SIDE))) if bench else []
    found, lost, untold = _files(data, [*data.problems, *data.oddities], users, wanted, followed if decode else None)
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in data.samples:
        if sample.clip not in lost:
            groups[_folder(sample.clip), sample.medium].append(sample)
            found += _turns(sample)
    found += _same_samples([sample for group in groups.values() for sample in group])
    health = tuple(_source(source, medium, group) for (source, medium), group in sorted(groups.items()))
    found += _of_sources(health)
    entries, usable = len(data.samples) + len(data.problems), sum(source.samples for source in health)
    return ValidationReport(kinds.by_severity([*found, *leaks]), entries, usable, len(users), decode, untold, sources=health)


def _users(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    out: dict[str, list[str]] = defaultdict(list)
    for clip, user in pairs:
        out[clip].append(user)
    return out


def _files(
    source: media.FileClips, problems: Sequence[Problem], users: media.ClipUsers, wanted: int, followed: Followed | None
) -> tuple[list[Finding], set[str], int]:
    """What was found about entries and clips, which clips cannot be used, and how many have a length that is not known.
    `followed` None: nothing is decoded, headers are read."""
    found = [Finding(problem.kind, problem.subject, problem.detail) for problem in problems]
    found += [*media.same_names(source, users), *media.copies(source, users), *media.torn(source, users)]
    if followed is None:
        told = dict(media.headers(source, users, users))
        broken = {clip: one for clip, one in told.items() if isinstance(one, Finding)}
        lengths = [(clip, one) for clip, one in told.items() if isinstance(one, tuple)]
        untold = len(told) - len(broken) - len(lengths)
    else:
        seen, untold = list(media.decoded(source, followed(list(users)), users)), 0
        broken = {clip: one for clip, one in seen if one.kind != kinds.LOST_FRAMES}
        found += [one for _, one in seen if one.kind == kinds.LOST_FRAMES]
        lengths = list(media.lengths(source, [clip for clip in users if clip not in broken]))
    return [*found, *broken.values(), *media.short(source, lengths, users, wanted)], set(broken), untold


def _options(item: Item) -> Iterator[Finding]:
    """What is wrong with one item's candidates; equal golds have been refused by the reader."""
    texts = [plain(option) for option in item.options]
    doubled = Counter(texts)
    gold = texts[item.answer]
    shown = f"{list(item.options)!r:.80}"
    if doubled[gold] > 1:
        yield Finding(kinds.GOLD_ALIKE, item.id, f"{item.options[item.answer]!r:.40} stands in another writing, too: {shown}")
    if any(number > 1 for text, number in doubled.items() if text != gold):
        yield Finding(kinds.CANDIDATES_ALIKE, item.id, shown)
    if len(texts) == 1:
        yield Finding(kinds.ONE_CANDIDATE, item.id, shown)


def _texts(name: str, texts: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """What is odd in the texts of one item or sample, each with what it is."""
    for what, text in texts:
        if what == "question" and not text.strip():
            yield Finding(kinds.EMPTY_QUESTION, name, f"{text!r:.40}")
        if control := control_characters(text):
            yield Finding(kinds.CONTROL, name, f"{what}: {', '.join(map(ascii, control))}")
        if marks := [mark for mark in _MARKERS if mark in text]:
            yield Finding(kinds.MARKERS, name, f"{what}: {', '.join(map(repr, marks))}")
        if len(text) > LONG:
            yield Finding(kinds.LONG_TEXT, name, f"{what}: {len(text):,} characters")


def _same_items(items: Iterable[Item]) -> Iterator[Finding]:
    """Items that ask the same of the same clip, with the same candidates in whatever order."""
    known: dict[object, Item] = {}
    for item in items:
        first = known.setdefault((item.clip, plain(item.question), tuple(sorted(map(plain, item.options)))), item)
        gold, other = item.options[item.answer], first.options[first.answer]
        if first is not item and plain(gold) == plain(other):
            yield Finding(kinds.SAME_ITEM, item.id, f"the same clip, question and candidates as {first.id}")
        elif first is not item:
            yield Finding(kinds.OTHER_ANSWER, item.id, f"{gold!r:.40} here, {other!r:.40} in {first.id}")


def _same_samples(samples: Iterable[Sample]) -> Iterator[Finding]:
    known: dict[object, str] = {}
    for sample in samples:
        first = known.setdefault((sample.medium, sample.clip, sample.instruction, sample.pairs), sample.id)
        if first != sample.id:
            yield Finding(kinds.SAME_SAMPLE, f"sample {sample.id}", f"the same clip and conversation as sample {first}")


def _task(task: str, entries: int, items: Sequence[Item]) -> TaskSummary:
    if not items:
        return TaskSummary(task, entries, 0, 0)
    golds = [plain(item.options[item.answer]) for item in items]
    numbers = [len(item.options) for item in items]
    return TaskSummary(
        task,
        entries,
        len(items),
        len({item.clip for item in items}),
        (min(numbers), max(numbers)),
        chance(items),
        prior(items),
        positions(items),
        positions_p(items),
        order(golds),
        order([item.answer + 1 for item in items]),
    )


def _of_task(task: TaskSummary, tasks: int) -> Iterator[Finding]:
    for what, found in (("gold answers", task.text_order), ("gold positions", task.place_order)):
        if found and found.share >= SORTED_SHARE and found.z >= SORTED_Z:
            yield Finding(
                kinds.SORTED,
                task.task,
                f"{what}: {found.alike} of {task.usable - 1} neighbours are alike, {found.expected:.0f} would be in a random "
                f"order (sortedness {found.share:.2f}, z {found.z:.1f}); "
                f"{found.common!r:.30} is {found.early:.0%} of the first quarter and {found.overall:.0%} of all",
            )
    if task.prior and task.chance is not None and task.prior.z > PRIOR_Z:
        above = f"{task.prior.z:.1f} standard errors above it"
        yield Finding(
            kinds.PRIOR,
            task.task,
            f"the most frequent gold text is right in {task.prior.accuracy:.1%}, chance is {task.chance:.1%}, {above}",
        )
    if task.positions_p is not None and task.positions_p * tasks < POSITIONS_P:
        detail = f"gold at {' / '.join(map(str, task.positions))}, p {task.positions_p:.1e} if all places were as likely"
        yield Finding(kinds.POSITIONS, task.task, detail)


def _turns(sample: Sample) -> Iterator[Finding]:
    """What is odd in one conversation."""
    name = f"sample {sample.id}"
    if not any(question for question, _ in sample.pairs):
        yield Finding(kinds.NO_QUESTION, name, f"answers: {len(sample.pairs)}; 'i' is {sample.instruction!r:.60}")
    for number, (question, answer) in enumerate(sample.pairs):
        if not answer:
            yield Finding(kinds.EMPTY_ANSWER, name, f"answer {number} is empty; its question is {question!r:.60}")
    texts = [("instruction", sample.instruction), *(part for q, a in sample.pairs for part in (("asked", q), ("answer", a)))]
    yield from _texts(name, texts)


def _folder(clip: str) -> str:
    parts = PurePosixPath(clip).parts
    return parts[0] if len(parts) > 1 else "."


def _source(source: str, medium: str, samples: Sequence[Sample]) -> SourceSummary:
    pairs = [len(sample.pairs) for sample in samples]
    return SourceSummary(
        source,
        medium,
        len(samples),
        len({sample.clip for sample in samples}),
        (min(pairs), float(median(pairs)), max(pairs)),
        sum(not any(question for question, _ in sample.pairs) for sample in samples),
        sum(not answer for sample in samples for _, answer in sample.pairs),
    )


def _of_sources(sources: Sequence[SourceSummary]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    for one in sources:
        counts[one.source] += one.samples
    if len(counts) > 1:
        for source, number in counts.most_common():
            yield Finding(kinds.SOURCES, source, f"{number} of {counts.total()} samples ({number / counts.total():.1%})")
