"""From what the user named to a benchmark and training data. A new kind of source is one entry here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtablate.config import DataConfig
from qtablate.data.mixture import Mixture, Source
from qtablate.data.userfiles import read_yaml
from qtablate.datatypes import IMAGE, VIDEO, Benchmark, TrainingData
from qtablate.errors import DataError
from qtablate.prompts.registry import FORMATS

WORLD = "world"


def open_benchmark(data: DataConfig, model: dict[str, Any]) -> Benchmark:
    """The benchmark, its clips at the model's size. Raises DataError."""
    shown = _shown(model)
    kind, _, path = data.bench.partition(":")
    if is_world(data.bench):
        from qtablate.world.benchmark import ITEMS_PER_TASK, RenderSpec, WorldBench

        level = _level("--bench", data.bench)
        return WorldBench(data.items_per_task or ITEMS_PER_TASK, level, spec=RenderSpec(*shown))
    if kind == "mvbench" and path:
        from qtablate.data.mvbench import MVBench

        return MVBench(path, *shown, data.items_per_task, data.items_seed, _markers(model))
    if kind == "custom" and path:
        from qtablate.data.custom import Custom

        return Custom(path, *shown, data.items_per_task)
    raise DataError(f"--bench: unknown benchmark '{data.bench}'; expected world, world:LEVEL, mvbench:DIR or custom:FILE.py")


def _shown(model: dict[str, Any]) -> tuple[int, int]:
    """(frames of a clip, pixels a side) that a model is shown."""
    return model["num_frames"], model["vision_config"]["image_size"]


def _markers(model: dict[str, Any]) -> Sequence[str]:
    """What no text may hold that this model is told."""
    form = FORMATS.get(model.get("conversation", ""))
    return form.reserved_strings if form else ()


def open_training(data: DataConfig, model: dict[str, Any], samples: int, image_ratio: float) -> TrainingData:
    """Training data with enough clips for a budget, its clips at the model's size; several sources as one. Raises DataError."""
    named = parts(data)
    opened = [_open_part(one, model, samples, image_ratio) for one in named]
    if len(named) == 1:
        return opened[0]
    names = [f"{n}-{Path(one.file).stem}".replace(":", "-") for n, one in enumerate(named, start=1)]
    return Mixture([Source(name, source, one.weight) for name, source, one in zip(names, opened, named, strict=True)])


def _open_part(part: "Part", model: dict[str, Any], samples: int, image_ratio: float) -> TrainingData:
    shown = _shown(model)
    if is_world(part.file):
        from qtablate.world.benchmark import RenderSpec, WorldTraining

        images = round(samples * image_ratio)
        media = part.media or (VIDEO, IMAGE)
        return WorldTraining(
            samples - images if VIDEO in media else 0,
            images if IMAGE in media else 0,
            _level("--train", part.file),
            spec=RenderSpec(*shown),
        )
    from qtablate.data.instructions import InstructionFile

    return InstructionFile(part.file, part.media_root, *shown, shuffle_pairs=part.shuffle_pairs, markers=_markers(model))


@dataclass(frozen=True, slots=True)
class Part:
    """One source of training data."""

    file: str
    """A json file of conversations, or `world`, `world:LEVEL`."""
    media_root: str = ""
    weight: float | None = None
    media: tuple[str, ...] = ()
    """Of the world alone: which media are taken of it. Empty: both."""
    shuffle_pairs: bool = False
    """Of a file alone: whether each visit of a sample tells its pairs in another order, as the original does."""


def parts(data: DataConfig) -> list[Part]:
    """The sources of training data that the user named. Raises DataError."""
    if Path(data.train).suffix in (".yaml", ".yml"):
        return _from_yaml(Path(data.train))
    files = data.train.split(",")
    if not all(map(str.strip, files)):
        raise DataError(f"--train: '{data.train}' has an empty name; expected world, a json file, or a comma list of these")
    weights = data.mixture_weights
    if weights and len(weights) != len(files):
        raise DataError(f"--train names {len(files)} sources, --mixture-weights {len(weights)}; give a weight for each")
    return [Part(file, data.media_root, weights[n] if weights else None) for n, file in enumerate(files)]


def _from_yaml(path: Path) -> list[Part]:
    """A list of `file`, and where wanted `media_root`, `weight`, `media`, `shuffle_pairs`; paths as seen from the file."""
    entries = read_yaml(path, "--train: ", "a YAML file that lists sources")
    known = ("file", "media_root", "weight", "media", "shuffle_pairs")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"--train: {path} should hold a list of sources, each with {', '.join(known)}")
    out = []
    for number, entry in enumerate(entries, start=1):
        where = f"--train: source {number} of {path}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise DataError(f"{where} should have 'file', a json file or world")
        for name in entry:
            if name not in known:
                raise DataError(f"{where}: unknown '{name}'; known: {', '.join(known)}")
        file, root, media = entry["file"], entry.get("media_root") or "", entry.get("media") or ()
        media = (media,) if isinstance(media, str) else tuple(media)
        if any(medium not in (VIDEO, IMAGE) for medium in media) or (media and not is_world(file)):
            raise DataError(f"{where}: 'media' is {VIDEO} or {IMAGE}, and of the world alone")
        shuffle = entry.get("shuffle_pairs", False)
        if not isinstance(shuffle, bool) or (shuffle and is_world(file)):
            raise DataError(f"{where}: 'shuffle_pairs' is true or false, and of a json file alone")
        out.append(
            Part(
                file if is_world(file) else str(path.parent / file),
                str(path.parent / root) if root else "",
                _weight(f"{where}: weight", entry["weight"]) if entry.get("weight") is not None else None,
                media,
                shuffle,
            )
        )
    return out


def _weight(where: str, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise DataError(f"{where}: {value!r} is no positive number")
    return weight


def trains_on_world_only(data: DataConfig) -> bool:
    """Whether all training data is drawn: as much as is asked for, and none of it bad."""
    return all(is_world(part.file) for part in parts(data))


def is_world(source: str) -> bool:
    return source.partition(":")[0] == WORLD


def _level(option: str, source: str) -> str:
    """The level in `world:LEVEL`. Raises DataError when there is no such level."""
    from qtablate.world.benchmark import NORMAL
    from qtablate.world.levels import LEVELS

    level = source.partition(":")[2] or NORMAL
    if level not in LEVELS:
        raise DataError(f"{option}: unknown level '{level}' of the world; known: {', '.join(LEVELS)}")
    return level
