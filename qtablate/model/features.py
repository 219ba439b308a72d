"""Frozen visual features: computed once, cached in files, shared by all cells.

Clips are split into chunks of a fixed size. A chunk's file is named by a hash of the weights and of all that its clips' pixels
depend on, so a larger set reuses the chunks of a smaller one, and nothing that changed is ever reused. A chunk's note (json) is
written last: its existence means that the chunk is complete.
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
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from qtablate.data.temporal import perturb
from qtablate.datatypes import Clips, Frames, Problem
from qtablate.errors import BadMedia, StoreError
from qtablate.files import atomic_path, write_text

if TYPE_CHECKING:
    import torch

    from qtablate.model.video_lm import VideoLM

FEATURES_SCHEMA = 3
"""Part of every chunk's name. Raise it when decoding, resizing or encoding changes: older files are not used then."""

CHUNK = 256
"""Number of clips in a chunk."""
_BATCH = 32  # clips per forward pass; fixed, so that features do not depend on who computes them


def vision_dtype(model: "VideoLM") -> "torch.dtype":
    """Return the dtype of the vision tower's parameters."""
    return next(parameter.dtype for name, parameter in model.named_parameters() if name.startswith("vision"))


def encode_clips(model: "VideoLM", clips: Mapping[str, Frames]) -> "dict[str, torch.Tensor]":
    """Run the vision tower on clips: frames by name -> (N, D) features by name, on the CPU.

    Clips of one shape are batched.
    """
    import torch

    from qtablate.model.preprocess import normalize_frames

    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, frames in clips.items():
        by_shape.setdefault(frames.shape, []).append(name)
    out: dict[str, torch.Tensor] = {}
    mean, std, dtype = model.config.image_mean, model.config.image_std, vision_dtype(model)
    with torch.inference_mode():
        for names in by_shape.values():
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                pixels = normalize_frames([clips[name] for name in batch], mean, std)  # (B, T, 3, H, W)
                features = model.vision_features(pixels.to(model.device, dtype)).cpu()  # (B, N, D)
                out.update((name, clip_features.clone()) for name, clip_features in zip(batch, features, strict=True))
    return out


def _tensor_name(index: int, control: str) -> str:
    """Name of a clip's features in its chunk's file."""
    return f"{index}/{control}" if control else str(index)


def _crc32(path: Path) -> int:
    """Compute the CRC-32 checksum of a file."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum


class _Note(TypedDict):
    """What is known of a chunk's array file, as json."""

    problems: list[tuple[int, str, str]]
    """(index in the chunk, kind, detail) of each clip that could not be decoded."""
    seconds: NotRequired[dict[int, tuple[float, ...]]]
    """Times of a clip's frames, by its index in the chunk (a string once it is read)."""
    size: int
    """Bytes."""
    mtime_ns: int
    crc32: int


@dataclass(frozen=True)
class FeatureFiles:
    """The cached features of one set of clips under one model."""

    folder: Path
    model_fingerprint: str
    clip_names: tuple[str, ...]
    clip_keys: tuple[str, ...]
    """For each clip, a text that says what its pixels depend on."""
    controls: tuple[str, ...] = ()
    """Temporal perturbations (data/temporal.py) of each clip that are encoded too, from one decoding."""
    precision: str = "fp32"
    software: str = ""
    """Versions of the packages that pixels and features depend on (versions.py)."""

    @cached_property
    def chunks(self) -> list[tuple[str, tuple[str, ...]]]:
        """(stem of the file name, clip names) of every chunk."""
        out, environment = [], [] if self.precision == "fp32" else [self.precision]
        environment += [self.software] if self.software else []
        for start in range(0, len(self.clip_names), CHUNK):
            names = self.clip_names[start : start + CHUNK]
            keys = self.clip_keys[start : start + CHUNK]
            # the names of clips count only where frames are shuffled by them
            controls = [*self.controls, names] if self.controls else []
            text = json.dumps([FEATURES_SCHEMA, self.model_fingerprint, keys, *controls, *environment])
            out.append((hashlib.sha256(text.encode()).hexdigest()[:24], names))
        return out

    def missing(self, verify_checksums: bool = False) -> list[int]:
        """Return the numbers of chunks that are missing or damaged.

        Args:
            verify_checksums: compute every file's checksum, which finds flipped bits too, rather than compare size and time.
        """
        return [number for number, (stem, _) in enumerate(self.chunks) if not self._is_complete(stem, verify_checksums)]

    def _is_complete(self, stem: str, verify_checksum: bool) -> bool:
        """Tell whether the array file is the one that its note was written for.

        A file whose modification time changed is verified by checksum in any case, so a copied cache is valid and a corrupted
        one is not.
        """
        note = self._read_note(stem)
        if note is None:
            return False
        try:
            status = self._array(stem).stat()
        except OSError:
            return False
        if status.st_size != note["size"]:
            return False
        modified = status.st_mtime_ns != note["mtime_ns"]
        if (modified or verify_checksum) and _crc32(self._array(stem)) != note["crc32"]:
            return False
        if modified:
            with suppress(OSError):  # so that it is verified once; a read-only cache is fine too
                os.utime(self._array(stem), ns=(status.st_atime_ns, note["mtime_ns"]))
        return True

    def mark_used(self) -> None:
        """Set the notes' time to now, so that other chunks are removed from the cache first."""
        for stem, _ in self.chunks:
            with suppress(OSError):  # missing, or read-only
                os.utime(self._note(stem))

    def _note(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def _array(self, stem: str) -> Path:
        return self.folder / f"{stem}.safetensors"

    def problems(self) -> list[Problem]:
        """List the clips that could not be decoded when the features were computed."""
        out = []
        for stem, names in self.chunks:
            note = self._read_note(stem)
            out += [Problem(names[index], kind, detail) for index, kind, detail in note["problems"]] if note else []
        return out

    def seconds(self) -> dict[str, tuple[float, ...]]:
        """Return the times in seconds at which each clip's frames were sampled, for models that are told them."""
        out: dict[str, tuple[float, ...]] = {}
        for stem, names in self.chunks:
            note = self._read_note(stem)
            if note:
                out.update((names[int(index)], tuple(times)) for index, times in note.get("seconds", {}).items())
        return out

    def _read_note(self, stem: str) -> _Note | None:
        """Read a chunk's note; None where it is missing or incomplete."""
        try:
            note = json.loads(self._note(stem).read_text())
            return cast(_Note, note) if note.keys() >= {"problems", "size", "mtime_ns", "crc32"} else None
        except (OSError, ValueError, AttributeError):
            return None

    def compute(self, number: int, model: "VideoLM", clips: Clips) -> None:
        """Decode, encode and write one chunk.

        Raises:
            StoreError: the cache cannot be written.
        """
        stem, names = self.chunks[number]
        problems: list[tuple[int, str, str]] = []
        seconds: dict[int, tuple[float, ...]] = {}
        clip_frames: dict[str, Frames] = {}
        for index, name in enumerate(names):
            try:
                frames = clips.frames(name)
                if getattr(model.config, "tell_seconds", False):
                    seconds[index] = clips.seconds(name)
            except BadMedia as error:
                problems.append((index, error.kind, error.detail))
                continue
            clip_frames[str(index)] = frames
            clip_frames |= {_tensor_name(index, control): perturb(control, name, frames) for control in self.controls}
        self._write(stem, encode_clips(model, clip_frames), problems, seconds)

    def _write(
        self,
        stem: str,
        arrays: "dict[str, torch.Tensor]",
        problems: list[tuple[int, str, str]],
        seconds: dict[int, tuple[float, ...]],
    ) -> None:
        """Write the arrays, then their note, with which they count as complete.

        Raises:
            StoreError: the cache cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            with atomic_path(self._array(stem), durable=False) as path:
                save_file(arrays, path)
                written = path.stat()  # of this file: another process may put its own in its place at any time
                crc32 = _crc32(path)
            note: _Note = {"problems": problems, "size": written.st_size, "mtime_ns": written.st_mtime_ns, "crc32": crc32}
            if seconds:
                note["seconds"] = seconds
            write_text(self._note(stem), json.dumps(note))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"cached features cannot be written into {self.folder} ({error}): make room there (qtablate cache --limit GB), "
                "or name another folder in the environment variable QTABLATE_CACHE"
            ) from None

    def verify(self) -> None:
        """Verify the checksum of every file.

        Raises:
            StoreError: a file is missing or damaged; the message names the first one.
        """
        for number in self.missing(verify_checksums=True):
            raise StoreError(
                f"cached features {self._array(self.chunks[number][0])} are missing or damaged (their checksum differs): "
                "run the same command again, they are computed again"
            )

    def read(self, control: str = "") -> dict[str, "torch.Tensor"]:
        """Read the (N, D) features of all clips that could be decoded, by name, without verifying checksums.

        Args:
            control: a temporal perturbation; empty: the clips as they are.

        Raises:
            StoreError: a file cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        out: dict[str, torch.Tensor] = {}
        for stem, names in self.chunks:
            try:
                with safe_open(self._array(stem), "pt") as file:
                    present = set(file.keys())
                    tensors = {name: _tensor_name(index, control) for index, name in enumerate(names)}
                    out.update((name, file.get_tensor(tensor)) for name, tensor in tensors.items() if tensor in present)
            except (OSError, SafetensorError) as error:
                raise StoreError(
                    f"cached features {self._array(stem)} cannot be read ({error}): delete the file, it is computed again"
                ) from None
        return out
