"""Frozen visual features: computed once, kept in files, shared by all cells.

Clips are cut into chunks of a fixed size. A chunk's file is named by the weights and by all that its clips' pixels
depend on, so that a larger set reuses the chunks of a smaller one, and nothing that changed is ever reused. Its note is written
last: a note means that the chunk is whole.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtablate.data.temporal import perturb
from qtablate.datatypes import Clips, Frames, Problem
from qtablate.errors import BadMedia, StoreError
from qtablate.files import aside, write_text

if TYPE_CHECKING:
    import torch

    from qtablate.model.family import Family

FEATURES_SCHEMA = 3
"""Raise it when decoding, sizing or encoding changes: no older file is used then."""

CHUNK = 256
_BATCH = 32  # clips in one forward pass; fixed, so that features do not depend on who computes them


def vision_dtype(model: "Family") -> "torch.dtype":
    """What the vision tower is held in."""
    return next(p.dtype for name, p in model.named_parameters() if name.startswith("vision"))


def encoded(model: "Family", shown: Mapping[str, Frames]) -> "dict[str, torch.Tensor]":
    """Frozen features (N, D) of clips by name. Clips of one size pass the encoder together."""
    import torch

    from qtablate.model.preprocess import normalised

    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, frames in shown.items():
        by_shape.setdefault(frames.shape, []).append(name)
    out: dict[str, torch.Tensor] = {}
    mean, std, dtype = model.config.image_mean, model.config.image_std, vision_dtype(model)
    with torch.inference_mode():
        for names in by_shape.values():
            for start in range(0, len(names), _BATCH):
                some = names[start : start + _BATCH]
                pixels = normalised([shown[name] for name in some], mean, std)
                features = model.vision_features(pixels.to(model.device, dtype)).cpu()
                out.update((name, one.clone()) for name, one in zip(some, features, strict=True))
    return out


def _key(place: int, control: str) -> str:
    return f"{place}/{control}" if control else str(place)


def _sum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            found = zlib.crc32(block, found)
    return found


@dataclass(frozen=True)
class FeatureFiles:
    """Where the features of one set of clips under one model lie."""

    folder: Path
    model_fingerprint: str
    clip_names: tuple[str, ...]
    clip_keys: tuple[str, ...]
    """Of each clip: whatever its pixels depend on."""
    altered: tuple[str, ...] = ()
    """Controls (data/temporal.py) under which each clip is encoded too, from one decoding."""
    precision: str = "fp32"
    software: str = ""
    """Versions of the packages that pixels and features depend on (versions.py)."""

    @cached_property
    def chunks(self) -> list[tuple[str, tuple[str, ...]]]:
        """(file stem, clips) of every chunk."""
        out, how = [], [] if self.precision == "fp32" else [self.precision]
        how += [self.software] if self.software else []
        for start in range(0, len(self.clip_names), CHUNK):
            names = self.clip_names[start : start + CHUNK]
            keys = self.clip_keys[start : start + CHUNK]
            # frames are shuffled by the clip's name
            controls = [*self.altered, names] if self.altered else []
            text = json.dumps([FEATURES_SCHEMA, self.model_fingerprint, keys, *controls, *how])
            out.append((hashlib.sha256(text.encode()).hexdigest()[:24], names))
        return out

    def missing(self, summed: bool = False) -> list[int]:
        """Numbers of the chunks that are not there, or not whole. `summed`: every file's checksum is taken, so that bits that
        flipped without a trace show too."""
        return [number for number, (stem, _) in enumerate(self.chunks) if not self._whole(stem, summed)]

    def _whole(self, stem: str, summed: bool) -> bool:
        """Whether the array is the one that its note was written for. A file that was touched since is summed in any case, so
        that a copied cache serves and a corrupted one does not."""
        note = self._read_note(stem)
        if note is None:
            return False
        try:
            found = self._array(stem).stat()
        except OSError:
            return False
        if found.st_size != note["size"]:
            return False
        touched = found.st_mtime_ns != note["mtime_ns"]
        if (touched or summed) and _sum(self._array(stem)) != note["crc32"]:
            return False
        if touched:
            with suppress(OSError):  # so that it is summed once; a cache that is read-only serves as well
                os.utime(self._array(stem), ns=(found.st_atime_ns, note["mtime_ns"]))
        return True

    def used(self) -> None:
        """Say that these chunks are in use, so that others are taken out of the cache first."""
        for stem, _ in self.chunks:
            with suppress(OSError):  # not there, or read-only
                os.utime(self._note(stem))

    def _note(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def _array(self, stem: str) -> Path:
        return self.folder / f"{stem}.safetensors"

    def problems(self) -> list[Problem]:
        """Clips that could not be decoded when the features were made, by the names that they have here."""
        out = []
        for stem, names in self.chunks:
            note = self._read_note(stem)
            out += [Problem(names[place], kind, detail) for place, kind, detail in note["problems"]] if note else []
        return out

    def seconds(self) -> dict[str, tuple[float, ...]]:
        """When each clip's frames were sampled, where the model is told (its fingerprint says so)."""
        out: dict[str, tuple[float, ...]] = {}
        for stem, names in self.chunks:
            note = self._read_note(stem) or {}
            out.update((names[int(place)], tuple(times)) for place, times in note.get("seconds", {}).items())
        return out

    def _read_note(self, stem: str) -> dict[str, Any] | None:
        """None where there is none, or a torn one."""
        try:
            note = json.loads(self._note(stem).read_text())
            return note if note.keys() >= {"problems", "size", "mtime_ns", "crc32"} else None
        except (OSError, ValueError, AttributeError):
            return None

    def compute(self, number: int, model: "Family", clips: Clips) -> None:
        """Decode and encode one chunk and write it. Raises StoreError where the cache cannot be written."""
        stem, names = self.chunks[number]
        problems: list[tuple[int, str, str]] = []
        seconds: dict[int, tuple[float, ...]] = {}
        shown: dict[str, Frames] = {}
        for place, name in enumerate(names):
            try:
                frames = clips.frames(name)
                if getattr(model.config, "tell_seconds", False):
                    seconds[place] = clips.seconds(name)
            except BadMedia as error:
                problems.append((place, error.kind, error.detail))
                continue
            shown[str(place)] = frames
            shown |= {_key(place, control): perturb(control, name, frames) for control in self.altered}
        self._write(stem, encoded(model, shown), {"problems": problems} | ({"seconds": seconds} if seconds else {}))

    def _write(self, stem: str, arrays: "dict[str, torch.Tensor]", note: dict[str, Any]) -> None:
        """The arrays, then their note: with it they count as whole. Raises StoreError."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            with aside(self._array(stem), durable=False) as path:
                save_file(arrays, path)
                written = path.stat()  # of this very file: another process may put its own in place at any time
                crc = _sum(path)
            note |= {"size": written.st_size, "mtime_ns": written.st_mtime_ns, "crc32": crc}
            write_text(self._note(stem), json.dumps(note))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"cached features cannot be written into {self.folder} ({error}): make room there (qtablate cache --limit GB), "
                "or name another folder in the environment variable QTABLATE_CACHE"
            ) from None

    def verify(self) -> None:
        """Take the checksum of every file. Raises StoreError that names the first one that is not what was written."""
        for number in self.missing(summed=True):
            raise StoreError(
                f"cached features {self._array(self.chunks[number][0])} are missing or damaged (their checksum differs): "
                "run the same command again, they are made anew"
            )

    def read(self, control: str = "") -> dict[str, "torch.Tensor"]:
        """All features by clip, (N, D) each, of the clips as they are or under a control; clips with problems are absent.
        Checksums are `verify`'s matter."""
        from safetensors import SafetensorError, safe_open

        out: dict[str, torch.Tensor] = {}
        for stem, names in self.chunks:
            try:
                with safe_open(self._array(stem), "pt") as file:
                    held = set(file.keys())
                    keys = {name: _key(place, control) for place, name in enumerate(names)}
                    out.update((name, file.get_tensor(key)) for name, key in keys.items() if key in held)
            except (OSError, SafetensorError) as error:
                raise StoreError(
                    f"cached features {self._array(stem)} cannot be read ({error}): delete the file, it is made again"
                ) from None
        return out
