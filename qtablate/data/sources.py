"""Open the benchmark and the training data that a user named. A new kind of source is one branch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtablate.config import DataConfig
from qtablate.data.mixture import Mixture, MixtureSource
from qtablate.data.userfiles import read_yaml
from qtablate.datatypes import IMAGE, VIDEO, Benchmark, TrainingData
from qtablate.errors import DataError
from qtablate.prompts.registry import FORMATS

WORLD = "world"


def open_benchmark(config: DataConfig, model: dict[str, Any]) -> Benchmark:
    """Open the benchmark, with clips at the model's number of frames and image size.

    Args:
        model: the model's config.json.

    Raises:
        DataError: the benchmark is unknown or cannot be read.
    """
    frame_shape = _frame_shape(model)
    kind, _, path = config.bench.partition(":")
    if is_world(config.bench):
        from qtablate.world.benchmark import ITEMS_PER_TASK, RenderSpec, WorldBench

        level = _parse_level("--bench", config.bench)
        return WorldBench(config.items_per_task or ITEMS_PER_TASK, level, spec=RenderSpec(*frame_shape))
    if kind == "mvbench" and path:
        from qtablate.data.mvbench import MVBench

        return MVBench(path, *frame_shape, config.items_per_task, config.items_seed, _reserved_strings(model))
    if kind == "custom" and path:
        from qtablate.data.custom import CustomBenchmark

        return CustomBenchmark(path, *frame_shape, config.items_per_task)
    raise DataError(f"--bench: unknown benchmark '{config.bench}'; expected world, world:LEVEL, mvbench:DIR or custom:FILE.py")


def _frame_shape(model: dict[str, Any]) -> tuple[int, int]:
    """Return (frames per video, height and width in pixels) that a model takes."""
    return model["num_frames"], model["vision_config"]["image_size"]


def _reserved_strings(model: dict[str, Any]) -> Sequence[str]:
    """Return the strings that mark turns in this model's conversations, which no text of the data may contain."""
    conversation = FORMATS.get(model.get("conversation", ""))
    return conversation.reserved_strings if conversation else ()


def open_training(config: DataConfig, model: dict[str, Any], samples: int, image_ratio: float) -> TrainingData:
    """Open the training data, with clips at the model's number of frames and image size; several sources become a `Mixture`.

    Args:
        model: the model's config.json.
        samples: number of samples that training will use; the world generates as many.
        image_ratio: share of images among the world's samples.

    Raises:
        DataError: a source is unknown or cannot be read.
    """
    named = training_sources(config)
    opened = [_open_training_source(source, model, samples, image_ratio) for source in named]
    if len(named) == 1:
        return opened[0]
    names = [f"{number}-{Path(source.file).stem}".replace(":", "-") for number, source in enumerate(named, start=1)]
    return Mixture([MixtureSource(name, data, source.weight) for name, data, source in zip(names, opened, named, strict=True)])


def _open_training_source(source: "TrainingSource", model: dict[str, Any], samples: int, image_ratio: float) -> TrainingData:
    """Open one source. Raises DataError."""
    frame_shape = _frame_shape(model)
    if is_world(source.file):
        from qtablate.world.benchmark import RenderSpec, WorldTraining

        images = round(samples * image_ratio)
        media = source.media or (VIDEO, IMAGE)
        return WorldTraining(
            samples - images if VIDEO in media else 0,
            images if IMAGE in media else 0,
            _parse_level("--train", source.file),
            spec=RenderSpec(*frame_shape),
        )
    from qtablate.data.instructions import InstructionFile

    return InstructionFile(
        source.file,
        source.media_root,
        *frame_shape,
        shuffle_pairs=source.shuffle_pairs,
        reserved_strings=_reserved_strings(model),
    )


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """One source of training data."""

    file: str
    """A json file of conversations, or `world`, `world:LEVEL`."""
    media_root: str = ""
    """Folder that the file's clips are named from; empty: the file's own."""
    weight: float | None = None
    """How often the source is drawn from, relative to the others; None: its number of samples."""
    media: tuple[str, ...] = ()
    """Of the world only: which media are generated; empty: both."""
    shuffle_pairs: bool = False
    """Of a file only: each visit of a sample presents its question-answer pairs in another order, as in VideoChat2."""


def training_sources(config: DataConfig) -> list[TrainingSource]:
    """Parse the sources of training data that the user named: one, a comma list, or a YAML file. Raises DataError."""
    if Path(config.train).suffix in (".yaml", ".yml"):
        return _parse_yaml(Path(config.train))
    files = config.train.split(",")
    if not all(map(str.strip, files)):
        raise DataError(f"--train: '{config.train}' has an empty name; expected world, a json file, or a comma list of these")
    weights = config.mixture_weights
    if weights and len(weights) != len(files):
        raise DataError(f"--train names {len(files)} sources, --mixture-weights {len(weights)}; give a weight for each")
    return [TrainingSource(file, config.media_root, weights[number] if weights else None) for number, file in enumerate(files)]


_YAML_KEYS = ("file", "media_root", "weight", "media", "shuffle_pairs")


def _parse_yaml(path: Path) -> list[TrainingSource]:
    """Parse a YAML list of sources, whose paths are relative to the YAML file. Raises DataError."""
    entries = read_yaml(path, "--train: ", "a YAML file that lists sources")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"--train: {path} should hold a list of sources, each with {', '.join(_YAML_KEYS)}")
    return [
        _parse_yaml_source(f"--train: source {number} of {path}", entry, path.parent)
        for number, entry in enumerate(entries, start=1)
    ]


def _parse_yaml_source(label: str, entry: Any, folder: Path) -> TrainingSource:
    """Parse one entry of a YAML file in `folder`; `label` is the prefix of messages. Raises DataError."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise DataError(f"{label} should have 'file', a json file or world")
    for key in entry:
        if key not in _YAML_KEYS:
            raise DataError(f"{label}: unknown '{key}'; known: {', '.join(_YAML_KEYS)}")
    file, root, media = entry["file"], entry.get("media_root") or "", entry.get("media") or ()
    media = (media,) if isinstance(media, str) else tuple(media)
    if any(medium not in (VIDEO, IMAGE) for medium in media) or (media and not is_world(file)):
        raise DataError(f"{label}: 'media' is {VIDEO} or {IMAGE}, and only the world has it")
    shuffle = entry.get("shuffle_pairs", False)
    if not isinstance(shuffle, bool) or (shuffle and is_world(file)):
        raise DataError(f"{label}: 'shuffle_pairs' is true or false, and only a json file has it")
    return TrainingSource(
        file if is_world(file) else str(folder / file),
        str(folder / root) if root else "",
        _parse_weight(f"{label}: weight", entry["weight"]) if entry.get("weight") is not None else None,
        media,
        shuffle,
    )


def _parse_weight(label: str, value: Any) -> float:
    """Return a weight as a positive number. Raises DataError."""
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise DataError(f"{label}: {value!r} is not a positive number")
    return weight


def trains_on_world_only(config: DataConfig) -> bool:
    """Return whether all training data is generated: as much as needed, and none of it unusable."""
    return all(is_world(source.file) for source in training_sources(config))


def is_world(source: str) -> bool:
    """Return whether a source is the procedural world: `world` or `world:LEVEL`."""
    return source.partition(":")[0] == WORLD


def _parse_level(option: str, source: str) -> str:
    """Return the level in `world:LEVEL`. Raises DataError when there is no such level."""
    from qtablate.world.benchmark import NORMAL
    from qtablate.world.levels import LEVELS

    level = source.partition(":")[2] or NORMAL
    if level not in LEVELS:
        raise DataError(f"{option}: unknown level '{level}' of the world; known: {', '.join(LEVELS)}")
    return level
