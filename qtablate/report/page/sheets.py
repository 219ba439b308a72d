"""Pictures of clips for the item browser: the frames of each in a row, as WebP, as many clips as fit into a size."""

import base64
import io
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

from PIL import Image

from qtablate.datatypes import Clips, Frames
from qtablate.errors import BadMedia, QtablateError
from qtablate.report.page.browser import ALL_RIGHT, Answered
from qtablate.video.contact_sheet import shown_frames

MAX_BYTES = 900_000
"""Of all pictures, as text in the page."""
MAX_SECONDS = 20.0
"""After which no further clip is decoded."""
_SIDE = 96
"""Pixels of a frame's longer side."""
_QUALITY = 60


def order_of_clips(answered: Answered) -> list[str]:
    """Return the clips in the order in which they get a picture: task by task in turn, items on which conditions disagree
    first."""
    of_task: dict[str, list[tuple[bool, int]]] = defaultdict(list)
    for number, (task, group) in enumerate(zip(answered.tasks, answered.groups(), strict=True)):
        of_task[task].append((group == ALL_RIGHT, number))
    turns = chain.from_iterable(zip_longest(*(sorted(numbers) for numbers in of_task.values())))
    return list(dict.fromkeys(answered.clips[one[1]] for one in turns if one))


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of clips."""

    urls: Mapping[str, str] = field(default_factory=dict)
    """Data URLs by clip."""
    missing: str = ""
    """How many clips have none, and why, as a sentence; empty where all have one."""


def pictures(clips: Clips, order: Sequence[str]) -> Pictures:
    """Draw the first clips, as many as fit into MAX_BYTES and MAX_SECONDS; a clip that cannot be decoded has no picture."""
    out: dict[str, str] = {}
    size, began, why, broken = 0, time.monotonic(), "", 0
    for clip in order:
        if size > MAX_BYTES:
            why = "so that the page stays small"
        elif time.monotonic() - began > MAX_SECONDS:
            why = f"since decoding them takes more than {MAX_SECONDS:g} seconds"
        if why:
            break
        try:
            url = _data_url(strip(clips.frames(clip)))
        except (BadMedia, QtablateError):
            broken += 1
            continue
        out[clip] = url
        size += len(url)
    left = len(order) - len(out) - broken
    parts = [f"{left} clips have no picture here, {why}."] if why else []
    parts += [f"{broken} clips cannot be decoded."] if broken else []
    return Pictures(out, " ".join(parts))


def strip(frames: Frames) -> Image.Image:
    """Return frames (T, H, W, 3) side by side, at most eight of them, evenly chosen, no larger than 96 pixels each."""
    images = shown_frames(frames, _SIDE)
    width, height = images[0].size
    out = Image.new("RGB", (len(images) * (width + 1) - 1, height))
    for place, image in enumerate(images):
        out.paste(image, (place * (width + 1), 0))
    return out


def _data_url(image: Image.Image) -> str:
    """Return an image as WebP: without loss where that is smaller, as of drawn pictures, with some loss elsewhere."""
    encoded = min((_webp(image, lossless=True), _webp(image, quality=_QUALITY)), key=len)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def _webp(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="webp", method=4, **options)
    return buffer.getvalue()
