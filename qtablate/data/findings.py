"""What a look at data files can find: each kind, how bad it is and what to do. A new kind is one entry here.

error: an entry that would be left out, or a score that would be wrong. warning: a score that could be misread.
note: good to know, harmless to qtablate itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from qtablate.video.isolated import DECODE_TIMEOUT, DECODER_CRASHED

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Kind:
    severity: str
    advice: str
    """What to do, in one sentence."""


_PUT_BACK = "Put the file where it is looked for, or take the entry out."
_COPY_AGAIN = "Copy or download the file again; until then whatever shows it is left out."
_MEND = "Mend the entry in the json file; until then it is left out."

GOLD_ALIKE, CANDIDATES_ALIKE, ONE_CANDIDATE = "gold alike a candidate", "candidates alike", "one candidate"
SORTED, PRIOR, POSITIONS = "sorted by gold", "text prior above chance", "uneven positions"
LEAK, TWINS, SAME_NAME = "training clip in benchmark", "one clip, two names", "one name, two clips"
FEW_FRAMES, END_PAST = "fewer frames than wanted", "end past the clip"
NO_QUESTION, EMPTY_ANSWER, SOURCES = "no question", "empty answer", "several sources"
EMPTY_QUESTION, CONTROL, LONG_TEXT = "empty question", "control characters", "very long text"
MARKERS = "marks of a conversation"
SAME_ITEM, OTHER_ANSWER, SAME_SAMPLE = "item given twice", "one question, two answers", "sample given twice"
REPEATED_KEY, LOST_FRAMES, TORN = "key given twice", "fewer frames than listed", "ends within a packet"

KINDS = {
    # as the readers name what they refuse
    "missing video": Kind(ERROR, _PUT_BACK),
    "missing image": Kind(ERROR, _PUT_BACK),
    "broken video": Kind(ERROR, _COPY_AGAIN),
    "broken image": Kind(ERROR, _COPY_AGAIN),
    "truncated video": Kind(ERROR, _COPY_AGAIN),
    "no frames": Kind(ERROR, _COPY_AGAIN),
    "not a file": Kind(ERROR, "Put a video or an image there: pipes, sockets and devices are never read."),
    "video too large": Kind(ERROR, "Make a smaller copy: models are shown a few hundred pixels a side."),
    "video too long": Kind(ERROR, "Cut the span that is meant into a file of its own."),
    DECODE_TIMEOUT: Kind(
        ERROR, "Cut a long file, or wait longer (QTABLATE_CLIP_SECONDS); sweeps try again after `qtablate cache --retry`."
    ),
    DECODER_CRASHED: Kind(
        ERROR, "Encode it anew with another program, or update PyAV; sweeps try again after `qtablate cache --retry`."
    ),
    "bounds past the end": Kind(ERROR, "Look whether this is the right clip, or its bounds in the right unit: seconds."),
    "empty bounds": Kind(ERROR, _MEND),
    "malformed bounds": Kind(ERROR, _MEND),
    "malformed item": Kind(ERROR, _MEND),
    "malformed sample": Kind(ERROR, _MEND),
    "path leaves the root": Kind(ERROR, "Name clips from their media root; nothing outside of it is read."),
    "unusable path": Kind(ERROR, _MEND),
    "unusable frame": Kind(ERROR, "Put the frame back, or take the link out; until then the folder is left out."),
    "gold not among candidates": Kind(ERROR, "Write the answer exactly as its candidate stands, or add it."),
    "gold given twice": Kind(ERROR, "Take one of the two equal candidates out: neither could be called wrong."),
    # left out by a sweep, which knows its model
    "text too long": Kind(ERROR, "Shorten the question or its candidates, or take a language model with more places."),
    "unusable text": Kind(ERROR, "Take the model's own markers, such as [INST] or <Video></Video>, out of the text."),
    # found by looking at what was read
    GOLD_ALIKE: Kind(ERROR, "Take the second writing of the gold answer out: whoever picks it is right, too."),
    OTHER_ANSWER: Kind(ERROR, "Take the wrong one out: of one clip, question and candidates only one answer can be right."),
    CANDIDATES_ALIKE: Kind(WARNING, "Take one of them out: chance is higher than 1 / candidates."),
    ONE_CANDIDATE: Kind(WARNING, "Always right, whatever was seen: report scores with and without these."),
    SORTED: Kind(WARNING, "Never take the first n: draw by gold answer, as --items-per-task does, or shuffle the file."),
    PRIOR: Kind(WARNING, "Compare with the blind control rather than with chance."),
    LEAK: Kind(ERROR, "Take these clips out of the training file: what is scored on them was learned by heart."),
    TWINS: Kind(WARNING, "Name one of them in all entries: clips count as independent in every standard error."),
    SAME_ITEM: Kind(WARNING, "Take the second one out: it counts twice."),
    EMPTY_QUESTION: Kind(WARNING, "Look whether the question was lost: candidates alone are then asked about."),
    LONG_TEXT: Kind(
        WARNING, "Look whether it is meant: a sweep leaves out items longer than its model's places, and cuts training texts."
    ),
    MARKERS: Kind(WARNING, "Take them out: sweeps of a model whose conversations are marked so leave these entries out."),
    CONTROL: Kind(WARNING, "Take them out: they are seldom meant, and each tokenizer reads them in its own way."),
    LOST_FRAMES: Kind(
        WARNING, "Copy or encode the file again: where frames are lost, the ones behind may be taken for others."
    ),
    TORN: Kind(WARNING, "Look whether the file was cut: its last part may be missing, and nothing in it says how long it was."),
    END_PAST: Kind(WARNING, "The span is cut at the clip's end: look whether bounds and clip belong together."),
    EMPTY_ANSWER: Kind(WARNING, "Nothing is learned from an empty answer but to stop: take the turn out."),
    FEW_FRAMES: Kind(NOTE, "Frames are repeated, as in the original; fewer frames would show as much."),
    SAME_NAME: Kind(NOTE, "qtablate keys by path; a cache keyed by name alone would mix them."),
    POSITIONS: Kind(NOTE, "Harmless where options are not listed; shuffle them before asking for a letter."),
    REPEATED_KEY: Kind(NOTE, "Take one of them out: JSON keeps the last. Where it decides an entry, other values are refused."),
    SAME_SAMPLE: Kind(NOTE, "Take the second one out unless it should weigh twice."),
    NO_QUESTION: Kind(NOTE, "Right for captions, whose task stands in 'i'."),
    SOURCES: Kind(NOTE, "Look whether their shares are what you want."),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    kind: str
    subject: str
    """The item, sample, clip, task or source, by name."""
    detail: str

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity if self.kind in KINDS else ERROR

    @property
    def advice(self) -> str:
        return KINDS[self.kind].advice if self.kind in KINDS else _MEND


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, kinds in the order of `KINDS`, else as they were found."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    last = len(order)
    return tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), order.get(one.kind, last), one.kind)))


def few(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
