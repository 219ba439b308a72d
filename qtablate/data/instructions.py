"""Instruction data as VideoChat2-IT ships it: a json list of clips or images, each with its questions and answers.

    [{"video": "a.mp4", "QA": [{"i": "...", "q": "...", "a": "..."}], "start"?: 1.0, "end"?: 2.5}, {"image": ..., "QA": ...}]

An entry that cannot be used is named and counted; it is never replaced by another one in silence.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qtablate.data.findings import REPEATED_KEY
from qtablate.data.texts import validate_encodable, validate_no_markers
from qtablate.data.userfiles import duplicate_keys, read_json, validate_no_conflict
from qtablate.datatypes import IMAGE, VIDEO, Frames, Problem, Sample
from qtablate.errors import BadMedia, DataError
from qtablate.video.frames import Clip, TimeSpan
from qtablate.video.paths import inside, state

_READ, _TURN = ("video", "image", "QA", "start", "end"), ("i", "q", "a")


class InstructionFile:
    """The file's usable samples; the others are in `problems`."""

    weights: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        file: str,
        media_root: str,
        frames: int,
        side: int,
        may_be_empty: bool = False,
        named: str = "--train: ",
        shuffle_pairs: bool = False,
        markers: Sequence[str] = (),
    ) -> None:
        """`may_be_empty`: a file without a usable sample is no error; its `problems` say why. `named`: what the user named the
        file by, in front of messages about it. `shuffle_pairs`: each visit of a sample tells its pairs in another order.
        `markers`: what no text may hold for the model that is trained (prompts.types.Format.reserved_strings)."""
        path, self._root = Path(file), Path(media_root or Path(file).parent)
        self._frames, self._side, self._markers = frames, side, markers
        entries = read_json(path, named, "a json list of conversations, or the word world")
        if not isinstance(entries, list):
            raise DataError(f"{named}{file} should hold a list of samples, holds {type(entries).__name__}")
        if not self._root.is_dir():
            raise DataError(f"--media-root: no folder {self._root}")
        self._shuffle_pairs = shuffle_pairs
        digest = hashlib.sha256(f"{frames}/{side}{'/shuffled' * shuffle_pairs}".encode() + path.read_bytes())
        self._clips: dict[str, Clip] = {}
        self.samples: list[Sample] = []
        self.problems: list[Problem] = []
        self.oddities: list[Problem] = []
        """What is odd about samples that are used all the same."""
        for number, entry in enumerate(entries):
            name = f"sample {number}"
            try:
                self.samples.append(self._sample(number, entry))
                if twice := duplicate_keys(entry, *entry["QA"]):
                    self.oddities.append(Problem(name, REPEATED_KEY, f"given more than once: {', '.join(map(repr, twice))}"))
            except BadMedia as problem:
                self.problems.append(Problem(name, problem.kind, problem.detail))
        if not self.samples and not may_be_empty:
            first = self.problems[0] if self.problems else None
            why = f"{first.kind} ({first.subject}: {first.detail})" if first else "it is empty"
            raise DataError(f"{named}{file} holds no usable sample: {why}")
        for name, clip in self._clips.items():
            digest.update(name.encode() + state(clip.path))
        self.fingerprint = digest.hexdigest()[:16]

    def media(self) -> Mapping[str, int]:
        return Counter(sample.medium for sample in self.samples)

    def clips(self) -> list[str]:
        return list(self._clips)

    def key(self, clip: str) -> str:
        return self._clips[clip].key(self._frames, self._side)

    def file(self, clip: str) -> tuple[Path, TimeSpan]:
        """Where a clip is, and which span of it is meant."""
        return self._clips[clip].path, self._clips[clip].bounds

    def frames(self, clip: str) -> Frames:
        return self._clips[clip].read(self._frames, self._side)

    def seconds(self, clip: str) -> tuple[float, ...]:
        return self._clips[clip].seconds(self._frames)

    def _sample(self, number: int, entry: Any) -> Sample:
        if not isinstance(entry, dict):
            raise BadMedia("malformed sample", f"expected an object, found {type(entry).__name__}")
        validate_no_conflict("malformed sample", entry, _READ)
        found = [medium for medium in (VIDEO, IMAGE) if isinstance(entry.get(medium), str)]
        if len(found) != 1:
            raise BadMedia("malformed sample", "expected exactly one of 'video' and 'image', a text")
        medium, turns = found[0], entry.get("QA")
        if not isinstance(turns, list) or not turns:
            raise BadMedia("malformed sample", "expected 'QA', a list of at least one {'q', 'a'}")
        # stage-2 captions have an empty question and their task in the instruction
        instruction = str(turns[0].get("i") or "").strip() if isinstance(turns[0], dict) else ""
        validate_encodable("malformed sample", "'i'", instruction)
        validate_no_markers("'i'", instruction, self._markers)
        pairs = []
        for turn in turns:
            if not isinstance(turn, dict) or not all(isinstance(turn.get(name), str) for name in ("q", "a")):
                raise BadMedia("malformed sample", f"a turn of QA should hold texts 'q' and 'a', is {turn!r:.60}")
            validate_no_conflict("malformed sample", turn, _TURN)
            for part in ("q", "a"):
                validate_encodable("malformed sample", f"'{part}'", turn[part])
                validate_no_markers(f"'{part}'", turn[part], self._markers)
            pairs.append((turn["q"].strip(), turn["a"].strip()))
        name = entry[medium]
        if Path(name) == Path():
            raise BadMedia("malformed sample", f"'{medium}' names no file")
        path = inside(self._root, name)
        if not path.exists():
            raise BadMedia(f"missing {medium}", str(path))
        bounds = TimeSpan.of(entry)
        clip = bounds.named(name)
        if clip in self._clips and self._clips[clip].medium != medium:
            clip += f" as {medium}"  # one file shown both ways is two clips
        self._clips[clip] = Clip(path, medium, bounds)
        return Sample(f"{number}", medium, clip, tuple(pairs), instruction, shuffle_pairs=self._shuffle_pairs)
