"""Contact sheets: the frames of clips in rows, with questions and options below."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qtablate.datatypes import Clips, Frames, Item
from qtablate.video.frames import upscale

FRAMES = 8
"""Frames of a clip that are shown, evenly chosen."""
_SIDE = 128  # pixels of a frame: small ones are enlarged by whole factors, large ones shrunk
_GAP, _LINE_HEIGHT = 6, 18  # pixels
_LONGEST = 70  # letters of an option; a question may have twice as many
_PAPER, _INK, _GOLD = (255, 255, 255), (20, 20, 20), (0, 110, 40)


def shown_frames(frames: Frames, side: int) -> list[Image.Image]:
    """Return at most FRAMES frames of a clip (T, H, W, 3) as images whose longer side has at most so many pixels."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    images = [Image.fromarray(np.asarray(frames[place])) for place in chosen]
    scale = side / max(images[0].size)
    if scale >= 1:
        return images
    width, height = (max(1, round(scale * length)) for length in images[0].size)
    return [image.resize((width, height)) for image in images]


def contact_sheet(clips: Clips, items: Sequence[Item]) -> Image.Image:
    """Draw each item's frames in a row, with its question and its options below; the gold option is green.

    Raises:
        BadMedia: a clip cannot be decoded.
    """
    font = ImageFont.load_default(size=13)
    rows = [_enlarged(shown_frames(clips.frames(item.clip), _SIDE)) for item in items]
    texts = [_texts(item) for item in items]
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    below = max(sum(probe.textlength(text, font=font) for text, _ in line) for lines in texts for line in lines)
    frames = max(len(row) * (row[0].width + _GAP) for row in rows)
    heights = [row[0].height + 2 * _LINE_HEIGHT + 2 * _GAP for row in rows]
    page = Image.new("RGB", (max(frames, round(below) + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    top = _GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for column, frame in enumerate(row):
            page.paste(frame, (_GAP + column * (frame.width + _GAP), top))
        for number, line in enumerate(lines):
            left = float(_GAP)
            for text, color in line:
                draw.text((left, top + row[0].height + 2 + number * _LINE_HEIGHT), text, fill=color, font=font)
                left += draw.textlength(text, font=font)
        top += height
    return page


def _enlarged(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Return small images enlarged by a whole factor."""
    factor = max(1, _SIDE // max(images[0].size))
    return [Image.fromarray(upscale(np.asarray(image), factor)) for image in images]


def _texts(item: Item) -> tuple[list[tuple[str, tuple[int, int, int]]], ...]:
    """Return the two lines under an item's frames: parts of text with their colors."""
    short = [textwrap.shorten(option, _LONGEST, placeholder=" ...") for option in item.options]
    options = [
        (f"({chr(65 + number)}) {option}   ", _GOLD if number == item.answer else _INK) for number, option in enumerate(short)
    ]
    question = textwrap.shorten(f"{item.id}: {item.question}", 2 * _LONGEST, placeholder=" ...")
    return [(question, _INK)], options
