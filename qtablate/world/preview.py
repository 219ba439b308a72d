"""Contact sheets of the procedural benchmark: one picture a task, to judge its questions by eye."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from qtablate.datatypes import Item
from qtablate.errors import DataError
from qtablate.files import aside
from qtablate.video.frames import enlarged
from qtablate.world.benchmark import WorldBench

_SCALE = 4  # pixels of the sheet for one of the clip
_GAP, _LINE = 6, 18
_PAPER, _INK, _GOLD = (255, 255, 255), (20, 20, 20), (0, 110, 40)


def preview(directory: Path, items_a_task: int, level: str) -> list[Path]:
    """Write DIR/TASK.png for every task, a row an item, and return the paths. Raises DataError where DIR is a file."""
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory} is no folder: name a new one")
    world = WorldBench(items_a_task, level)
    out = []
    for task in world.tasks:
        path = directory / f"{task}.png"
        with aside(path) as temporary:
            sheet(world, [item for item in world.items if item.task == task]).save(temporary, format="png")
        out.append(path)
    return out


def sheet(world: WorldBench, items: Sequence[Item]) -> Image.Image:
    """Each item's frames side by side, its question and its options below, the gold one in green."""
    font = ImageFont.load_default(size=13)
    rows = [world.frames(item.clip) for item in items]
    frames, side = rows[0].shape[0], rows[0].shape[1] * _SCALE
    row_height = side + 2 * _LINE + 2 * _GAP
    page = Image.new("RGB", (frames * (side + _GAP) + _GAP, len(items) * row_height + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, (item, clip) in enumerate(zip(items, rows, strict=True)):
        top = _GAP + number * row_height
        for place, frame in enumerate(clip):
            page.paste(Image.fromarray(enlarged(frame, _SCALE)), (_GAP + place * (side + _GAP), top))
        draw.text((_GAP, top + side + 2), f"{item.id}: {item.question}", fill=_INK, font=font)
        left = float(_GAP)
        for place, option in enumerate(item.options):
            text = f"({chr(65 + place)}) {option}   "
            draw.text((left, top + side + 2 + _LINE), text, fill=_GOLD if place == item.answer else _INK, font=font)
            left += draw.textlength(text, font=font)
    return page
