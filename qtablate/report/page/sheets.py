"""Pictures of clips for the item browser: the frames of each in a row, as WebP, as many clips as fit into a size."""

import base64
import io
import time
from collections import defaultdict
from collections.abc import Sequence
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


def pictures(clips: Clips, order: Sequence[str]) -> dict[str, str]:
    """Return pictures of the first clips as data URLs, by clip, as many as fit into MAX_BYTES; a clip that cannot be decoded
    has none."""
    out: dict[str, str] = {}
    size, began = 0, time.monotonic()
    for clip in order:
        if size > MAX_BYTES or time.monotonic() - began > MAX_SECONDS:
            break
        try:
            url = _data_url(strip(clips.frames(clip)))
        except (BadMedia, QtablateError):
            continue
        out[clip] = url
        size += len(url)
    return out


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
