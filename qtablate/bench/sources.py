"""From what the user named to a benchmark and training data. A new kind of source is one entry here."""

from dataclasses import dataclass
from typing import Any

from qtablate.bench.items import Benchmark, TrainingData
from qtablate.errors import DataError

WORLD = "world"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where model, questions and samples come from, as the user wrote it."""

    model: str = "nano"
    bench: str = WORLD
    """`world`, `world:LEVEL` or `mvbench:DIR`."""
    train: str = WORLD
    """`world`, `world:LEVEL` or a json file of conversations."""
    media_root: str = ""
    """The folder that the file's clips are named from."""
    items_a_task: int | None = None


def open_benchmark(sources: Sources, model: dict[str, Any]) -> Benchmark:
    """The benchmark, its clips at the model's size. Raises DataError."""
    shown = (model["num_frames"], model["vision_config"]["image_size"])
    if is_world(sources.bench):
        from qtablate.bench.world.benchmark import ITEMS_A_TASK, Shown, WorldBench

        level = _level("--bench", sources.bench)
        return WorldBench(sources.items_a_task or ITEMS_A_TASK, level, shown=Shown(*shown))
    kind, _, path = sources.bench.partition(":")
    if kind == "mvbench" and path:
        from qtablate.bench.mvbench import MVBench

        return MVBench(path, *shown, sources.items_a_task)
    raise DataError(f"--bench: unknown benchmark '{sources.bench}'; expected world, world:LEVEL or mvbench:DIR")


def open_training(sources: Sources, model: dict[str, Any], samples: int, image_share: float) -> TrainingData:
    """Training data with enough clips for a budget, its clips at the model's size. Raises DataError."""
    shown = (model["num_frames"], model["vision_config"]["image_size"])
    if is_world(sources.train):
        from qtablate.bench.world.benchmark import Shown, WorldTraining

        images = round(samples * image_share)
        return WorldTraining(samples - images, images, _level("--train", sources.train), shown=Shown(*shown))
    from qtablate.bench.instructions import InstructionFile

    return InstructionFile(sources.train, sources.media_root, *shown)


def is_world(source: str) -> bool:
    return source.partition(":")[0] == WORLD


def _level(option: str, source: str) -> str:
    """The level in `world:LEVEL`. Raises DataError when there is no such level."""
    from qtablate.bench.world.benchmark import NORMAL
    from qtablate.bench.world.stories import LEVELS

    level = source.partition(":")[2] or NORMAL
    if level not in LEVELS:
        raise DataError(f"{option}: unknown level '{level}' of the world; known: {', '.join(LEVELS)}")
    return level
