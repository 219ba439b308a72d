"""Read instruction data in VideoChat2-IT's format: a json list of clips or images, each with its questions and answers.

    [{"video": "a.mp4", "QA": [{"i": "...", "q": "...", "a": "..."}], "start"?: 1.0, "end"?: 2.5}, {"image": ..., "QA": ...}]

An entry that cannot be used is named and counted; it is never silently replaced by another one.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qtablate.data.texts import validate_encodable, validate_no_reserved_strings
from qtablate.data.userfiles import DUPLICATE_KEY, duplicate_keys, read_json, validate_no_conflict
from qtablate.datatypes import IMAGE, VIDEO, Frames, Problem, Sample
from qtablate.errors import BadMedia, DataError
from qtablate.video.frames import Clip, TimeSpan
from qtablate.video.paths import file_state, resolve_inside

_SAMPLE_KEYS, _TURN_KEYS = ("video", "image", "QA", "start", "end"), ("i", "q", "a")


class InstructionFile:
    """The file's usable samples; the others are in `problems`."""

    weights: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        file: str,
        media_root: str,
        num_frames: int,
        image_size: int,
        allow_empty: bool = False,
        option: str = "--train: ",
        shuffle_pairs: bool = False,
        reserved_strings: Sequence[str] = (),
    ) -> None:
        """Read the file and check its entries; clips are decoded later.

        Args:
            media_root: folder that clips are named from; empty: the file's own.
            num_frames: frames per video that the model takes.
            image_size: height and width of the frames in pixels.
            allow_empty: a file without a usable sample is no error; its `problems` say why.
            option: how the user named the file, put in front of messages about it.
            shuffle_pairs: each visit of a sample presents its question-answer pairs in another order.
            reserved_strings: strings that no text may contain, because the trained model's conversations use them
                (prompts.types.Format.reserved_strings).

        Raises:
            DataError: the file is missing or no list of samples, has no usable sample, or the media root is missing.
        """
        path, self._root = Path(file), Path(media_root or Path(file).parent)
        self._num_frames, self._image_size, self._reserved_strings = num_frames, image_size, reserved_strings
        entries = read_json(path, option, "a json list of conversations, or the word world")
        if not isinstance(entries, list):
            raise DataError(f"{option}{file} should hold a list of samples, holds {type(entries).__name__}")
        if not self._root.is_dir():
            raise DataError(f"--media-root: no folder {self._root}")
        self._shuffle_pairs = shuffle_pairs
        digest = hashlib.sha256(f"{num_frames}/{image_size}{'/shuffled' * shuffle_pairs}".encode() + path.read_bytes())
        self._clips: dict[str, Clip] = {}
        self.samples: list[Sample] = []
        self.problems: list[Problem] = []
        """Entries that cannot be used."""
        self.warnings: list[Problem] = []
        """What is unusual about samples that are used all the same."""
        for number, entry in enumerate(entries):
            name = f"sample {number}"
            try:
                self.samples.append(self._parse_sample(number, entry))
                if keys := duplicate_keys(entry, *entry["QA"]):
                    self.warnings.append(Problem(name, DUPLICATE_KEY, f"given more than once: {', '.join(map(repr, keys))}"))
            except BadMedia as problem:
                self.problems.append(Problem(name, problem.kind, problem.detail))
        if not self.samples and not allow_empty:
            first = self.problems[0] if self.problems else None
            why = f"{first.kind} ({first.subject}: {first.detail})" if first else "it is empty"
            raise DataError(f"{option}{file} holds no usable sample: {why}")
        for name, clip in self._clips.items():
            digest.update(name.encode() + file_state(clip.path))
        self.fingerprint = digest.hexdigest()[:16]

    def media(self) -> Mapping[str, int]:
        """Return the number of samples per medium."""
        return Counter(sample.medium for sample in self.samples)

    def clips(self) -> list[str]:
        """Return the names of all clips, in the order of the file."""
        return list(self._clips)

    def key(self, clip: str) -> str:
        """Identify a clip's pixels."""
        return self._clips[clip].key(self._num_frames, self._image_size)

    def file(self, clip: str) -> tuple[Path, TimeSpan]:
        """Return a clip's file or folder and the part of it that is shown."""
        return self._clips[clip].path, self._clips[clip].span

    def frames(self, clip: str) -> Frames:
        """Decode a clip: (num_frames, image_size, image_size, 3), of an image one frame. Raises BadMedia."""
        return self._clips[clip].read(self._num_frames, self._image_size)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return when each sampled frame is shown, in seconds; of an image, nothing. Raises BadMedia."""
        return self._clips[clip].seconds(self._num_frames)

    def _parse_sample(self, number: int, entry: Any) -> Sample:
        """Turn an entry into a sample and register its clip. Raises BadMedia."""
        if not isinstance(entry, dict):
            raise BadMedia("malformed sample", f"expected an object, found {type(entry).__name__}")
        validate_no_conflict("malformed sample", entry, _SAMPLE_KEYS)
        media = [medium for medium in (VIDEO, IMAGE) if isinstance(entry.get(medium), str)]
        if len(media) != 1:
            raise BadMedia("malformed sample", "expected exactly one of 'video' and 'image', a text")
        [medium] = media
        instruction, pairs = self._parse_conversation(entry.get("QA"))
        clip = self._register_clip(medium, entry)
        return Sample(f"{number}", medium, clip, pairs, instruction, shuffle_pairs=self._shuffle_pairs)

    def _parse_conversation(self, turns: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Return (instruction, question-answer pairs) of a 'QA' list. Raises BadMedia."""
        if not isinstance(turns, list) or not turns:
            raise BadMedia("malformed sample", "expected 'QA', a list of at least one {'q', 'a'}")
        # captions (stage 2 of VideoChat2's data) have an empty question and their task in the instruction
        instruction = str(turns[0].get("i") or "").strip() if isinstance(turns[0], dict) else ""
        validate_encodable("malformed sample", "'i'", instruction)
        validate_no_reserved_strings("'i'", instruction, self._reserved_strings)
        pairs = []
        for turn in turns:
            if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("q", "a")):
                raise BadMedia("malformed sample", f"a turn of QA should hold texts 'q' and 'a', is {turn!r:.60}")
            validate_no_conflict("malformed sample", turn, _TURN_KEYS)
            for key in ("q", "a"):
                validate_encodable("malformed sample", f"'{key}'", turn[key])
                validate_no_reserved_strings(f"'{key}'", turn[key], self._reserved_strings)
            pairs.append((turn["q"].strip(), turn["a"].strip()))
        return instruction, tuple(pairs)

    def _register_clip(self, medium: str, entry: dict[str, Any]) -> str:
        """Find the entry's file and return the clip's name. Raises BadMedia."""
        name = entry[medium]
        if Path(name) == Path():
            raise BadMedia("malformed sample", f"'{medium}' names no file")
        path = resolve_inside(self._root, name)
        if not path.exists():
            raise BadMedia(f"missing {medium}", str(path))
        span = TimeSpan.from_entry(entry)
        clip = span.clip_name(name)
        if clip in self._clips and self._clips[clip].medium != medium:
            clip += f" as {medium}"  # one file used both as a video and as an image is two clips
        self._clips[clip] = Clip(path, medium, span)
        return clip
