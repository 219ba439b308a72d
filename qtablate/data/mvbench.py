"""A folder in MVBench's format: json/TASK.json beside video/. Facts: mvbench.md.

    DIR/json/moving_count.json     [{"video": ..., "question": ..., "candidates": [...], "answer": ..., "start"?, "end"?}]
    DIR/video/...                  the clips, under the original's media roots, under video/TASK/, or right under video/

Any json file is a task, so other sets of the same format (TVBench, say) work as they are; where their clips lie elsewhere
below video/, DIR/tasks.json says so: {"TASK": "folder"}. An item that cannot be used is named and
counted, never scored as if it were fine.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from qtablate.data.findings import REPEATED_KEY
from qtablate.data.texts import validate_encodable, validate_no_markers, validate_option_count
from qtablate.data.userfiles import DuplicateKeyDict, duplicate_keys, read_json, validate_no_conflict
from qtablate.datatypes import IMAGE, VIDEO, Frames, Item, Problem
from qtablate.errors import BadMedia, DataError
from qtablate.prompts.mvbench import MEDIA_ROOTS, SYSTEM_PROMPT
from qtablate.seeds import Rng
from qtablate.video.frames import Clip, TimeSpan
from qtablate.video.paths import inside, is_frame, state

_READ = ("video", "question", "candidates", "answer", "start", "end")


class MVBench:
    """The folder's usable items; the others are in `problems`."""

    def __init__(
        self,
        directory: str,
        frames: int,
        side: int,
        items_a_task: int | None = None,
        seed: int = 0,
        markers: Sequence[str] = (),
    ) -> None:
        """At most `items_a_task` of a task, drawn by `seed`; None: all. `markers`: what no text may hold for the model that is
        asked (prompts.types.Format.reserved_strings)."""
        self.root, self._frames, self._side, self._markers = Path(directory), frames, side, markers
        found = [path for path in (self.root / "json").glob("*.json") if not (path.is_dir() or path.name.startswith("."))]
        files = sorted(found, key=lambda path: _rank(_task(path)))
        if not files:
            raise DataError(
                f"{directory} is not a folder in MVBench's format: expected {directory}/json/TASK.json and {directory}/video/"
            )
        self._roots = MEDIA_ROOTS | _task_table(self.root / "tasks.json")
        self.tasks = [_task(file) for file in files]
        self._clips: dict[str, Clip] = {}
        self.items: list[Item] = []
        self.entries = 0
        """That the files hold, usable or not, drawn or not."""
        self.problems: list[Problem] = []
        self.oddities: list[Problem] = []
        """What is odd about items that are used all the same."""
        drawn = f"{items_a_task}/{seed}" if seed else items_a_task
        digest = hashlib.sha256(f"{frames}/{side}/{drawn}/{SYSTEM_PROMPT}".encode())
        for file in files:
            items = list(self._read(file))
            digest.update(os.fsencode(file.name) + file.read_bytes())
            self.items += _stratified(items, items_a_task, seed) if items_a_task else items
        used = {item.clip for item in self.items}
        for name, clip in self._clips.items():
            if name in used:
                digest.update(name.encode() + state(clip.path))
        self.fingerprint = digest.hexdigest()[:16]

    def clips(self) -> Sequence[str]:
        return list(dict.fromkeys(item.clip for item in self.items))

    def key(self, clip: str) -> str:
        return self._clips[clip].key(self._frames, self._side)

    def file(self, clip: str) -> tuple[Path, TimeSpan]:
        """Where a clip is, and which span of it is meant."""
        return self._clips[clip].path, self._clips[clip].bounds

    def frames(self, clip: str) -> Frames:
        return self._clips[clip].read(self._frames, self._side)

    def seconds(self, clip: str) -> tuple[float, ...]:
        return self._clips[clip].seconds(self._frames)

    def _read(self, file: Path) -> Iterator[Item]:
        entries, task = read_json(file), _task(file)
        if not isinstance(entries, list):
            raise DataError(f"{file}: expected a list of questions, found {type(entries).__name__}")
        self.entries += len(entries)
        for number, entry in enumerate(entries):
            name = f"{task}-{number:04d}"
            try:
                yield self._item(task, number, entry)
                if twice := duplicate_keys(entry):
                    self.oddities.append(Problem(name, REPEATED_KEY, f"given more than once: {', '.join(map(repr, twice))}"))
            except BadMedia as problem:
                self.problems.append(Problem(name, problem.kind, problem.detail))

    def _item(self, task: str, number: int, entry: Any) -> Item:
        """One entry as an item. Raises BadMedia saying why it cannot be used."""
        if not isinstance(entry, dict):
            raise BadMedia("malformed item", f"expected an object, found {type(entry).__name__}")
        validate_no_conflict("malformed item", entry, _READ)
        for name, kind in (("video", str), ("question", str), ("candidates", list), ("answer", str)):
            if not isinstance(entry.get(name), kind):
                raise BadMedia("malformed item", f"'{name}' should be a {kind.__name__}, is {entry.get(name)!r:.60}")
        candidates = entry["candidates"]
        if not all(isinstance(option, str) and option.strip() for option in candidates):
            raise BadMedia("malformed item", f"candidates should be texts, are {candidates!r:.80}")
        for named, text in (
            ("question", entry["question"]),
            ("answer", entry["answer"]),
            *(("candidates", o) for o in candidates),
        ):
            validate_encodable("malformed item", f"'{named}'", text)
            validate_no_markers(f"'{named}'", text, self._markers)
        if candidates.count(entry["answer"]) > 1:
            raise BadMedia("gold given twice", f"{entry['answer']!r:.40} stands more than once in {candidates!r:.80}")
        if entry["answer"] not in candidates:
            raise BadMedia("gold not among candidates", f"{entry['answer']!r:.40} is none of {candidates!r:.80}")
        validate_option_count(candidates)
        clip, media = self._clip(task, entry)
        answer = candidates.index(entry["answer"])
        return Item(
            f"{task}-{number:04d}",
            task,
            clip,
            entry["question"],
            tuple(candidates),
            answer,
            self._clips[clip].medium,
            media=media,
            instruction=SYSTEM_PROMPT,
        )

    def _clip(self, task: str, entry: dict[str, Any]) -> tuple[str, str]:
        """(clip, file): the path below the root with the bounds and without them; the clip is made known."""
        bounds = TimeSpan.of(entry)
        video = self.root / "video"
        if not entry["video"].strip():
            raise BadMedia("malformed item", "'video' is empty")
        # a media root may itself be a link to another disk; below it nothing may lead out
        folders = [video / folder for folder in (self._roots.get(task), task, ".") if folder]
        path = next((path for path in [inside(folder, entry["video"]) for folder in folders] if path.exists()), None)
        if path is None:
            places = ", ".join((folder / entry["video"]).relative_to(self.root).as_posix() for folder in folders)
            raise BadMedia("missing video", f"{entry['video']} is at none of {places}")
        media = path.relative_to(video).as_posix()
        clip = bounds.named(media)
        # other sets of this format ask about pictures too
        self._clips[clip] = Clip(path, IMAGE if is_frame(path) else VIDEO, bounds)
        return clip, media


def _task(file: Path) -> str:
    """A task's name; what is not UTF-8 in its file's name is escaped, so that it can be written."""
    return os.fsencode(file.stem).decode(errors="backslashreplace")


def _task_table(path: Path) -> dict[str, str]:
    """Where the clips of each task lie below video/, where a set says so. Raises DataError when the file is no such table."""
    if not os.path.lexists(path):
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(folder, str) for folder in found.values()):
        raise DataError(f'{path} should name a folder below video/ for each task, such as {{"action_count": "clips/a"}}')
    if isinstance(found, DuplicateKeyDict):
        raise DataError(
            f"{path} names {', '.join(map(repr, found.repeated))} more than once: which folder is meant cannot be told"
        )
    for task, folder in found.items():
        if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            raise DataError(
                f"{path}: the folder of {task!r} should lie below {path.parent / 'video'}, is {folder!r:.80}; name it from "
                "there without '..', and where its clips are on another disk, link that folder there"
            )
    return found


def _rank(task: str) -> tuple[int, str]:
    known = list(MEDIA_ROOTS)
    return (known.index(task) if task in known else len(known), task)


def _stratified(items: list[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` items with each gold answer in its share: some files are sorted by answer, so the first few would
    be nearly one class. A smaller limit gives a subset of a larger one's classes."""
    groups: dict[str, list[Item]] = {}
    rng = Rng("items", items[0].task if items else "", *([seed] if seed else []))
    for item in rng.shuffled(items):
        groups.setdefault(item.options[item.answer], []).append(item)
    taken: Counter[str] = Counter()
    out: list[Item] = []
    while len(out) < min(limit, len(items)):
        # the answer that is furthest behind its share is next
        behind = {
            g: len(group) / len(items) * (len(out) + 1) - taken[g] for g, group in groups.items() if taken[g] < len(group)
        }
        gold = max(behind, key=lambda g: (behind[g], g))
        out.append(groups[gold][taken[gold]])
        taken[gold] += 1
    return sorted(out, key=lambda item: item.id)
