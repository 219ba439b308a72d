"""Read a benchmark folder in MVBench's format: json/TASK.json beside video/. Facts: mvbench.md.

    DIR/json/moving_count.json     [{"video": ..., "question": ..., "candidates": [...], "answer": ..., "start"?, "end"?}]
    DIR/video/...                  the clips, under MVBench's media roots, under video/TASK/, or directly under video/

Every json file is a task, so other sets of the same format (such as TVBench) work unchanged; where their clips lie elsewhere
below video/, DIR/tasks.json says so: {"TASK": "folder"}. An item that cannot be used is named and counted, never scored.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from qtablate.data.texts import validate_encodable, validate_no_reserved_strings, validate_option_count
from qtablate.data.userfiles import DUPLICATE_KEY, DuplicateKeyDict, duplicate_keys, read_json, validate_no_conflict
from qtablate.datatypes import IMAGE, VIDEO, Frames, Item, Problem
from qtablate.errors import BadMedia, DataError
from qtablate.prompts.mvbench import MEDIA_ROOTS, SYSTEM_PROMPT
from qtablate.seeds import Rng
from qtablate.video.frames import Clip, TimeSpan
from qtablate.video.paths import file_state, is_frame, resolve_inside

_ITEM_KEYS = ("video", "question", "candidates", "answer", "start", "end")


class MVBench:
    """The folder's usable items; the others are in `problems`."""

    def __init__(
        self,
        directory: str,
        num_frames: int,
        image_size: int,
        items_per_task: int | None = None,
        seed: int = 0,
        reserved_strings: Sequence[str] = (),
    ) -> None:
        """Read the json files and check their entries; clips are decoded later.

        Args:
            num_frames: frames per video that the model takes.
            image_size: height and width of the frames in pixels.
            items_per_task: largest number of items of a task, drawn by `seed`; None: all.
            reserved_strings: strings that no text may contain, because the evaluated model's conversations use them
                (prompts.types.Format.reserved_strings).

        Raises:
            DataError: the folder has no json/TASK.json, or one of its files cannot be read as a whole.
        """
        self.root, self._num_frames, self._image_size, self._reserved_strings = (
            Path(directory),
            num_frames,
            image_size,
            reserved_strings,
        )
        paths = [path for path in (self.root / "json").glob("*.json") if not (path.is_dir() or path.name.startswith("."))]
        files = sorted(paths, key=lambda path: _rank(_task_name(path)))
        if not files:
            raise DataError(
                f"{directory} is not a folder in MVBench's format: expected {directory}/json/TASK.json and {directory}/video/"
            )
        self._media_roots = MEDIA_ROOTS | _read_task_folders(self.root / "tasks.json")
        self.tasks = [_task_name(file) for file in files]
        self._clips: dict[str, Clip] = {}
        self.items: list[Item] = []
        self.num_entries = 0
        """Entries in the files: usable or not, drawn or not."""
        self.problems: list[Problem] = []
        """Entries that cannot be used."""
        self.warnings: list[Problem] = []
        """What is unusual about items that are used all the same."""
        drawn = f"{items_per_task}/{seed}" if seed else items_per_task
        digest = hashlib.sha256(f"{num_frames}/{image_size}/{drawn}/{SYSTEM_PROMPT}".encode())
        for file in files:
            items = list(self._read_task(file))
            digest.update(os.fsencode(file.name) + file.read_bytes())
            self.items += _draw_stratified(items, items_per_task, seed) if items_per_task else items
        used = {item.clip for item in self.items}
        for name, clip in self._clips.items():
            if name in used:
                digest.update(name.encode() + file_state(clip.path))
        self.fingerprint = digest.hexdigest()[:16]

    def clips(self) -> Sequence[str]:
        """Return the names of all clips, in the order of the items."""
        return list(dict.fromkeys(item.clip for item in self.items))

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

    def _read_task(self, file: Path) -> Iterator[Item]:
        """Yield the usable items of a json file and record the others' problems. Raises DataError."""
        entries, task = read_json(file), _task_name(file)
        if not isinstance(entries, list):
            raise DataError(f"{file}: expected a list of questions, found {type(entries).__name__}")
        self.num_entries += len(entries)
        for number, entry in enumerate(entries):
            name = f"{task}-{number:04d}"
            try:
                yield self._parse_item(task, name, entry)
                if keys := duplicate_keys(entry):
                    self.warnings.append(Problem(name, DUPLICATE_KEY, f"given more than once: {', '.join(map(repr, keys))}"))
            except BadMedia as problem:
                self.problems.append(Problem(name, problem.kind, problem.detail))

    def _parse_item(self, task: str, name: str, entry: Any) -> Item:
        """Turn an entry into an item and register its clip. Raises BadMedia saying why it cannot be used."""
        if not isinstance(entry, dict):
            raise BadMedia("malformed item", f"expected an object, found {type(entry).__name__}")
        validate_no_conflict("malformed item", entry, _ITEM_KEYS)
        for key, kind in (("video", str), ("question", str), ("candidates", list), ("answer", str)):
            if not isinstance(entry.get(key), kind):
                raise BadMedia("malformed item", f"'{key}' should be a {kind.__name__}, is {entry.get(key)!r:.60}")
        self._validate_texts(entry)
        clip, media = self._register_clip(task, entry)
        return Item(
            name,
            task,
            clip,
            entry["question"],
            tuple(entry["candidates"]),
            entry["candidates"].index(entry["answer"]),
            self._clips[clip].medium,
            media=media,
            instruction=SYSTEM_PROMPT,
        )

    def _validate_texts(self, entry: dict[str, Any]) -> None:
        """Check an entry's question, candidates and answer. Raises BadMedia."""
        candidates, answer = entry["candidates"], entry["answer"]
        if not all(isinstance(option, str) and option.strip() for option in candidates):
            raise BadMedia("malformed item", f"candidates should be texts, are {candidates!r:.80}")
        texts = [("question", entry["question"]), ("answer", answer), *(("candidates", option) for option in candidates)]
        for key, text in texts:
            validate_encodable("malformed item", f"'{key}'", text)
            validate_no_reserved_strings(f"'{key}'", text, self._reserved_strings)
        if candidates.count(answer) > 1:
            raise BadMedia("duplicate gold", f"{answer!r:.40} occurs more than once in {candidates!r:.80}")
        if answer not in candidates:
            raise BadMedia("gold not among candidates", f"{answer!r:.40} is none of {candidates!r:.80}")
        validate_option_count(candidates)

    def _register_clip(self, task: str, entry: dict[str, Any]) -> tuple[str, str]:
        """Find the entry's file and return (clip, media): its path below video/ with and without time span. Raises BadMedia."""
        span = TimeSpan.from_entry(entry)
        video = self.root / "video"
        if not entry["video"].strip():
            raise BadMedia("malformed item", "'video' is empty")
        # a media root may itself be a link to another disk; nothing below it may lead out
        folders = [video / folder for folder in (self._media_roots.get(task), task, ".") if folder]
        candidates = [resolve_inside(folder, entry["video"]) for folder in folders]
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            places = ", ".join((folder / entry["video"]).relative_to(self.root).as_posix() for folder in folders)
            raise BadMedia("missing video", f"{entry['video']} is at none of {places}")
        media = path.relative_to(video).as_posix()
        clip = span.clip_name(media)
        # other sets of this format ask about images too
        self._clips[clip] = Clip(path, IMAGE if is_frame(path) else VIDEO, span)
        return clip, media


def _task_name(file: Path) -> str:
    """Return a task's name; bytes that are not UTF-8 in its file's name are escaped, so that it can be written."""
    return os.fsencode(file.stem).decode(errors="backslashreplace")


def _read_task_folders(path: Path) -> dict[str, str]:
    """Return each task's folder below video/, where tasks.json exists. Raises DataError when it is no such table."""
    if not os.path.lexists(path):
        return {}
    folders = read_json(path)
    if not isinstance(folders, dict) or not all(isinstance(folder, str) for folder in folders.values()):
        raise DataError(f'{path} should name a folder below video/ for each task, such as {{"action_count": "clips/a"}}')
    if isinstance(folders, DuplicateKeyDict):
        names = ", ".join(map(repr, folders.duplicates))
        raise DataError(f"{path} names {names} more than once: which folder is meant is unclear")
    for task, folder in folders.items():
        if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            raise DataError(
                f"{path}: the folder of {task!r} should lie below {path.parent / 'video'}, is {folder!r:.80}; name it from "
                "there without '..', and where its clips are on another disk, link that folder there"
            )
    return folders


def _rank(task: str) -> tuple[int, str]:
    """Sort key: MVBench's tasks in their own order, then others by name."""
    known = list(MEDIA_ROOTS)
    return (known.index(task) if task in known else len(known), task)


def _draw_stratified(items: list[Item], limit: int, seed: int) -> list[Item]:
    """Draw at most `limit` items in which each gold answer has its share of all items.

    Some files are sorted by answer, so their first items would be nearly one class. A smaller limit draws a subset of each
    class of a larger one.
    """
    groups: dict[str, list[Item]] = {}
    rng = Rng("items", items[0].task if items else "", *([seed] if seed else []))
    for item in rng.shuffled(items):
        groups.setdefault(item.options[item.answer], []).append(item)
    counts: Counter[str] = Counter()
    out: list[Item] = []
    while len(out) < min(limit, len(items)):
        # the next item has the answer that is furthest below its share
        deficits = {
            gold: len(group) / len(items) * (len(out) + 1) - counts[gold]
            for gold, group in groups.items()
            if counts[gold] < len(group)
        }
        gold = max(deficits, key=lambda gold: (deficits[gold], gold))
        out.append(groups[gold][counts[gold]])
        counts[gold] += 1
    return sorted(out, key=lambda item: item.id)
