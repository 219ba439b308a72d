"""Kinds of findings in data files: how severe each one is and what to do about it. A new kind is one entry in KINDS.

error: an entry that would be left out, or a score that would be wrong. warning: a score that could be misread.
note: good to know, harmless to qtablate itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from qtablate.data.userfiles import DUPLICATE_KEY
from qtablate.video.isolated import DECODE_TIMEOUT, DECODER_CRASHED

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of finding means for the user."""

    severity: str
    """ERROR, WARNING or NOTE."""
    advice: str
    """What to do, in one sentence."""


_PUT_BACK = "Put the file at its path, or remove the entry."
_COPY_AGAIN = "Copy or download the file again; until then, entries that use it are left out."
_FIX_ENTRY = "Fix the entry in the json file; until then it is left out."

# candidates and gold answers of items
GOLD_EQUIVALENT, DUPLICATE_CANDIDATES, SINGLE_CANDIDATE = "candidate equals gold", "duplicate candidates", "single candidate"
SORTED_BY_GOLD, TEXT_BIAS, UNEVEN_POSITIONS = "sorted by gold", "text bias above chance", "uneven gold positions"
# entries that repeat or contradict one another
DUPLICATE_ITEM, CONFLICTING_ANSWERS, DUPLICATE_SAMPLE = "duplicate item", "conflicting answers", "duplicate sample"
# texts
EMPTY_QUESTION, NO_QUESTION, EMPTY_ANSWER = "empty question", "no question", "empty answer"
CONTROL_CHARACTERS, VERY_LONG_TEXT, MARKERS = "control characters", "very long text", "conversation markers"
# clips and files
LEAK, DUPLICATE_CLIP, SHARED_NAME = "training clip in benchmark", "duplicate clip", "shared file name"
FEW_FRAMES, END_PAST, LOST_FRAMES = "fewer frames than sampled", "end past the end", "undecodable frames"
ENDS_WITHIN_PACKET, SEVERAL_SOURCES = "ends within a packet", "several sources"

KINDS = {
    # problems for which the readers leave out an entry
    "missing video": Kind(ERROR, _PUT_BACK),
    "missing image": Kind(ERROR, _PUT_BACK),
    "broken video": Kind(ERROR, _COPY_AGAIN),
    "broken image": Kind(ERROR, _COPY_AGAIN),
    "truncated video": Kind(ERROR, _COPY_AGAIN),
    "no frames": Kind(ERROR, _COPY_AGAIN),
    "not a file": Kind(ERROR, "Put a video or an image there: pipes, sockets and devices are never read."),
    "video too large": Kind(ERROR, "Make a smaller copy: models take frames of a few hundred pixels."),
    "video too long": Kind(ERROR, "Cut the relevant part into a file of its own."),
    DECODE_TIMEOUT: Kind(
        ERROR,
        "Cut a long file, or raise the time limit (QTABLATE_CLIP_SECONDS); `qtablate cache --retry` lets sweeps try again.",
    ),
    DECODER_CRASHED: Kind(
        ERROR, "Encode it again with another program, or update PyAV; `qtablate cache --retry` lets sweeps try again."
    ),
    "start past the end": Kind(ERROR, "Check that it is the right clip and that the time span is in seconds."),
    "empty time span": Kind(ERROR, _FIX_ENTRY),
    "malformed time span": Kind(ERROR, _FIX_ENTRY),
    "malformed item": Kind(ERROR, _FIX_ENTRY),
    "malformed sample": Kind(ERROR, _FIX_ENTRY),
    "path leaves the root": Kind(ERROR, "Name clips relative to their media root; nothing outside of it is read."),
    "unusable path": Kind(ERROR, _FIX_ENTRY),
    "unusable frame": Kind(ERROR, "Restore the frame, or remove the link; until then the folder is left out."),
    "gold not among candidates": Kind(ERROR, "Write the answer exactly like its candidate, or add it to the candidates."),
    "duplicate gold": Kind(ERROR, "Remove one of the two equal candidates: neither could be scored as wrong."),
    # problems for which a sweep leaves out an entry, because they depend on its model
    "text too long": Kind(ERROR, "Shorten the question or its candidates, or use a language model with more positions."),
    "unusable text": Kind(ERROR, "Remove the model's own markers, such as [INST] or <Video></Video>, from the text."),
    # problems that the checks find in entries that readers accept
    GOLD_EQUIVALENT: Kind(ERROR, "Remove the second spelling of the gold answer: choosing it is correct as well."),
    CONFLICTING_ANSWERS: Kind(ERROR, "Remove the wrong one: one clip, question and candidates have one correct answer."),
    DUPLICATE_CANDIDATES: Kind(WARNING, "Remove one of them: chance is higher than 1 / candidates."),
    SINGLE_CANDIDATE: Kind(WARNING, "Such items are always correct: report scores with and without them."),
    SORTED_BY_GOLD: Kind(
        WARNING, "Never take the first n items: draw by gold answer, as --items-per-task does, or shuffle the file."
    ),
    TEXT_BIAS: Kind(WARNING, "Compare with the blind control rather than with chance."),
    LEAK: Kind(ERROR, "Remove these clips from the training file: scores on them measure memorization."),
    DUPLICATE_CLIP: Kind(WARNING, "Use one name in all entries: standard errors treat clips as independent."),
    DUPLICATE_ITEM: Kind(WARNING, "Remove the second one: it counts twice."),
    EMPTY_QUESTION: Kind(WARNING, "Check whether the question was lost: the model sees the candidates alone."),
    VERY_LONG_TEXT: Kind(
        WARNING,
        "Check whether it is intended: a sweep leaves out items that exceed its model's positions, and truncates "
        "training texts.",
    ),
    MARKERS: Kind(WARNING, "Remove them: sweeps of a model whose conversations use these markers leave the entries out."),
    CONTROL_CHARACTERS: Kind(WARNING, "Remove them: they are rarely intended, and tokenizers treat them differently."),
    LOST_FRAMES: Kind(WARNING, "Copy or encode the file again: after a lost frame, later frames may be mistaken for others."),
    ENDS_WITHIN_PACKET: Kind(
        WARNING, "Check whether the file was truncated: its end may be missing, and the format does not declare its length."
    ),
    END_PAST: Kind(WARNING, "The time span is clipped to the clip's end: check that span and clip belong together."),
    EMPTY_ANSWER: Kind(WARNING, "Remove the turn: an empty answer teaches the model only to stop."),
    FEW_FRAMES: Kind(NOTE, "Frames are repeated, as in VideoChat2; sampling fewer frames would show as much."),
    SHARED_NAME: Kind(NOTE, "qtablate identifies clips by path; a cache by file name alone would confuse them."),
    UNEVEN_POSITIONS: Kind(NOTE, "Harmless where options are not listed; shuffle them before asking for a letter."),
    DUPLICATE_KEY: Kind(NOTE, "Remove one of them: JSON keeps the last. Different values of a key in use are refused."),
    DUPLICATE_SAMPLE: Kind(NOTE, "Remove the second one unless it should have twice the weight."),
    NO_QUESTION: Kind(NOTE, "Correct for captions, whose task is in 'i'."),
    SEVERAL_SOURCES: Kind(NOTE, "Check that their shares are intended."),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one item, sample, clip, task or source."""

    kind: str
    """A key of KINDS."""
    subject: str
    """Name of the item, sample, clip, task or source."""
    detail: str
    """What was found, with figures."""

    @property
    def severity(self) -> str:
        """ERROR, WARNING or NOTE."""
        return KINDS[self.kind].severity if self.kind in KINDS else ERROR

    @property
    def advice(self) -> str:
        """What to do, in one sentence."""
        return KINDS[self.kind].advice if self.kind in KINDS else _FIX_ENTRY


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: errors first, then by the order of `KINDS`, then in the given order."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(
        sorted(
            findings,
            key=lambda finding: (
                SEVERITIES.index(finding.severity),
                order.get(finding.kind, len(order)),
                finding.kind,
            ),
        )
    )


def abbreviate(names: Iterable[str], limit: int = 3) -> str:
    """Join names as `a, b, c and 4 more`."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
