"""Contact sheets of the procedural benchmark: one picture per task, to check its questions by eye."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from qtablate.datatypes import Item
from qtablate.errors import DataError
from qtablate.files import atomic_path
from qtablate.video.frames import upscale
from qtablate.world.benchmark import WorldBench

_SCALE = 4  # a pixel of the clip is 4 x 4 pixels of the sheet
_GAP, _LINE_HEIGHT = 6, 18  # pixels
_PAPER, _INK, _GOLD = (255, 255, 255), (20, 20, 20), (0, 110, 40)


def preview(directory: Path, items_per_task: int, level: str) -> list[Path]:
    """Write directory/TASK.png for every task, one row per item, and return the paths.

    Raises:
        DataError: `directory` is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory} is not a folder: choose another name")
    world = WorldBench(items_per_task, level)
    out = []
    for task in world.tasks:
        path = directory / f"{task}.png"
        with atomic_path(path) as temporary:
            contact_sheet(world, [item for item in world.items if item.task == task]).save(temporary, format="png")
        out.append(path)
    return out


def contact_sheet(world: WorldBench, items: Sequence[Item]) -> Image.Image:
    """Draw each item's frames in a row, with its question and its options below; the gold option is green."""
    font = ImageFont.load_default(size=13)
    clips = [world.frames(item.clip) for item in items]
    frames, size = clips[0].shape[0], clips[0].shape[1] * _SCALE
    row_height = size + 2 * _LINE_HEIGHT + 2 * _GAP
    page = Image.new("RGB", (frames * (size + _GAP) + _GAP, len(items) * row_height + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for row, (item, clip) in enumerate(zip(items, clips, strict=True)):
        top = _GAP + row * row_height
        for column, frame in enumerate(clip):
            page.paste(Image.fromarray(upscale(frame, _SCALE)), (_GAP + column * (size + _GAP), top))
        draw.text((_GAP, top + size + 2), f"{item.id}: {item.question}", fill=_INK, font=font)
        left = float(_GAP)
        for number, option in enumerate(item.options):
            text = f"({chr(65 + number)}) {option}   "
            color = _GOLD if number == item.answer else _INK
            draw.text((left, top + size + 2 + _LINE_HEIGHT), text, fill=color, font=font)
            left += draw.textlength(text, font=font)
    return page
