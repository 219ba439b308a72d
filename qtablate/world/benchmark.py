"""The world as a benchmark and as training data. Nothing is stored: a clip's name says which random stream made it.

The splits `pretrain`, `train` and `eval` draw from streams of different names, so they are disjoint by construction.
A clip's name is world/LEVEL/SPLIT/MEDIUM/NUMBER.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
from PIL import Image

from qtablate.datatypes import IMAGE, VIDEO, Frames, Item, Problem, Sample
from qtablate.prompts.segments import DESCRIBE
from qtablate.seeds import Rng
from qtablate.video.frames import enlarged, frame_indices, resized
from qtablate.world.captions import caption
from qtablate.world.questions import TASKS, image_questions, questions
from qtablate.world.scenarios import LEVELS, STORIES, simulate, still_life, tell
from qtablate.world.scene import FPS, FRAMES, SIDE, Scene, render

ITEMS_A_TASK = 100
NORMAL = "normal"
ITEMS_A_CLIP = 4
PAIRS_A_SAMPLE = 6
_CAPTIONS = 0.5  # share of samples that ask for everything at once, the lever of alignment


def scene_of(clip: str) -> Scene:
    """The scene behind a clip's name, such as `world/normal/eval/video/17`."""
    level = LEVELS[clip.split("/")[1]]
    return (still_life if f"/{IMAGE}/" in clip else simulate)(Rng(clip), level)


@dataclass(frozen=True, slots=True)
class Shown:
    """How many frames of a video, and how large, a model is shown."""

    frames: int = FRAMES
    side: int = SIDE

    def of(self, clip: str) -> Frames:
        """The world has its own size and length: other models see its pixels as larger squares, or resized where no whole
        number of them fits, and its frames sampled as those of a file are."""
        whole = render(scene_of(clip), 1 if f"/{IMAGE}/" in clip else FRAMES)
        if len(whole) > 1:
            whole = whole[self._indices()]
        if self.side == SIDE:
            return whole
        if self.side % SIDE == 0:
            return enlarged(whole, self.side // SIDE)
        return np.stack([np.asarray(resized(Image.fromarray(frame), self.side)) for frame in whole])

    def seconds_of(self, clip: str) -> tuple[float, ...]:
        """When each of these frames is shown; of an image, none."""
        return () if f"/{IMAGE}/" in clip else tuple(n / FPS for n in self._indices())

    def _indices(self) -> list[int]:
        return list(range(FRAMES)) if self.frames == FRAMES else frame_indices(FRAMES, 1.0, self.frames)

    def key_of(self, clip: str) -> str:
        return "/".join(map(str, (_pixels(clip.split("/")[1]), clip, *self.key)))

    @property
    def key(self) -> tuple[int, ...]:
        return () if self == Shown() else (self.frames, self.side)


def fingerprint(level: str, *parts: object) -> str:
    """Of what is asked for, and of clips and texts of every story as this code makes them: a changed world is a new one."""
    digest = hashlib.sha256("/".join(map(str, (level, *parts))).encode())
    for number in range(4):
        rng = Rng("probe", number)
        scenes = [(tell(story, rng, LEVELS[level]), FRAMES) for story in STORIES] + [(still_life(rng, LEVELS[level]), 1)]
        for scene, frames in scenes:
            asked = image_questions if frames == 1 else questions
            digest.update(render(scene, frames).tobytes() + repr((caption(scene), asked(scene, rng))).encode())
    return digest.hexdigest()[:16]


@cache
def _pixels(level: str) -> str:
    """Changes with the code that draws."""
    return fingerprint(level, "pixels")


class WorldBench:
    """Items of every task, `items_a_task` each, gold answers balanced where a task has few, several questions a clip."""

    problems: Sequence[Problem] = ()

    def __init__(
        self,
        items_a_task: int = ITEMS_A_TASK,
        level: str = NORMAL,
        tasks: Sequence[str] = tuple(TASKS),
        split: str = "eval",
        shown: Shown = Shown(),
    ) -> None:
        self.items_a_task, self.level, self.split, self.shown = items_a_task, level, split, shown
        self.tasks = tuple(tasks)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.level, "bench", self.items, *self.shown.key)

    @cached_property
    def items(self) -> Sequence[Item]:
        left = Counter(dict.fromkeys(self.tasks, self.items_a_task))
        # no answer of a task with few answers is gold more often than its even share
        share = {task: -(-self.items_a_task // len(TASKS[task].answers)) for task in self.tasks if TASKS[task].answers}
        golds: Counter[tuple[str, str]] = Counter()
        out: list[Item] = []
        number = 0
        while left.total():
            clip = f"world/{self.level}/{self.split}/{VIDEO}/{number}"
            asked: set[str] = set()
            taken = 0
            for question in questions(scene_of(clip), Rng(clip, "questions")):
                task, gold = question.task, (question.task, question.answer)
                if task not in left or task in asked:
                    continue
                asked.add(task)  # a clip is asked one question of a task, the same one whatever the size of the benchmark
                full = task in share and golds[gold] >= share[task]
                if taken == ITEMS_A_CLIP or not left[task] or full:
                    continue
                taken += 1
                left[task] -= 1
                golds[gold] += 1
                name = f"{task}-{number:05d}" if self.level == NORMAL else f"{task}-{self.level}-{number:05d}"
                out.append(Item(name, task, clip, question.text, question.options, question.options.index(question.answer)))
            number += 1
        return sorted(out, key=lambda item: (self.tasks.index(item.task), item.id))

    def clips(self) -> Sequence[str]:
        return list(dict.fromkeys(item.clip for item in self.items))

    def key(self, clip: str) -> str:
        return self.shown.key_of(clip)

    def frames(self, clip: str) -> Frames:
        return self.shown.of(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        return self.shown.seconds_of(clip)


class WorldTraining:
    """`videos` clips and `images` images of the split, each with a caption or with several questions."""

    problems: Sequence[Problem] = ()
    weights: Mapping[str, float] = MappingProxyType({})

    def __init__(self, videos: int, images: int, level: str = NORMAL, split: str = "train", shown: Shown = Shown()) -> None:
        self.videos, self.images, self.level, self.split, self.shown = videos, images, level, split, shown

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.level, "train", self.split, PAIRS_A_SAMPLE, _CAPTIONS, *self.shown.key)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        return [self.sample(medium, n) for medium, count in self.media().items() for n in range(count)]

    def media(self) -> Mapping[str, int]:
        return {VIDEO: self.videos, IMAGE: self.images}

    def sample(self, medium: str, number: int, visit: int = 0) -> Sample:
        """One clip's conversation; another visit tells another one."""
        clip = f"world/{self.level}/{self.split}/{medium}/{number}"
        scene, rng = scene_of(clip), Rng(clip, "conversation", visit)
        if rng.bernoulli(_CAPTIONS):
            pairs = [(DESCRIBE, caption(scene))]
        else:
            asked = questions(scene, rng) if medium == VIDEO else image_questions(scene, rng)
            pairs = [(question.text, question.answer) for question in asked[:PAIRS_A_SAMPLE]]
        return Sample(clip, medium, clip, tuple(pairs))

    def clips(self) -> Sequence[str]:
        return [f"world/{self.level}/{self.split}/{medium}/{n}" for medium, count in self.media().items() for n in range(count)]

    def key(self, clip: str) -> str:
        return self.shown.key_of(clip)

    def frames(self, clip: str) -> Frames:
        return self.shown.of(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        return self.shown.seconds_of(clip)
