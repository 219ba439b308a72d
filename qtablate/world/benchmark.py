"""The procedural world as a benchmark and as training data. No file is stored: the name of a clip seeds its random stream.

The name of a clip is world/LEVEL/SPLIT/MEDIUM/NUMBER. The splits `pretrain`, `train` and `eval` draw from streams of
different names, so they are disjoint by construction.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
from PIL import Image

from qtablate.datatypes import IMAGE, VIDEO, Frames, Item, Problem, Sample
from qtablate.prompts.types import CAPTION_QUESTION
from qtablate.seeds import Rng
from qtablate.video.frames import frame_indices, resize_center_crop, upscale
from qtablate.world.captions import caption
from qtablate.world.levels import LEVELS
from qtablate.world.question import Question
from qtablate.world.questions import TASKS, image_questions, questions
from qtablate.world.scenarios import SCENARIOS, generate, random_scene, static_scene
from qtablate.world.scene import FPS, FRAMES, IMAGE_SIZE, Scene, render

ITEMS_PER_TASK = 100
NORMAL = "normal"
"""The default level."""
ITEMS_PER_CLIP = 4
"""Largest number of items that ask about one clip."""
PAIRS_PER_SAMPLE = 6
"""Largest number of questions and answers in a training sample."""
_CAPTION_SHARE = 0.75
"""Share of training samples that are captions; the others are questions. With fewer captions alignment learns later
(results/nano), and with questions alone far less."""


def scene_of(clip: str) -> Scene:
    """Generate the scene of a clip from its name, such as `world/normal/eval/video/17`."""
    level = LEVELS[clip.split("/")[1]]
    return (static_scene if _is_image(clip) else random_scene)(Rng(clip), level)


def _is_image(clip: str) -> bool:
    return f"/{IMAGE}/" in clip


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """Number and size of the frames that a model receives."""

    frames: int = FRAMES
    """Frames per video."""
    image_size: int = IMAGE_SIZE
    """Height and width in pixels."""

    def render(self, clip: str) -> Frames:
        """Render a clip as (frames, image_size, image_size, 3) RGB bytes; an image has one frame.

        Scenes have FRAMES frames of IMAGE_SIZE pixels. Frames are sampled as those of a video file are. Pixels are repeated
        where image_size is a multiple of IMAGE_SIZE, and interpolated otherwise.
        """
        clip_frames = render(scene_of(clip), 1 if _is_image(clip) else FRAMES)
        if len(clip_frames) > 1:
            clip_frames = clip_frames[self._indices()]
        if self.image_size == IMAGE_SIZE:
            return clip_frames
        if self.image_size % IMAGE_SIZE == 0:
            return upscale(clip_frames, self.image_size // IMAGE_SIZE)
        return np.stack([np.asarray(resize_center_crop(Image.fromarray(frame), self.image_size)) for frame in clip_frames])

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return the time of each sampled frame in seconds; empty for an image."""
        return () if _is_image(clip) else tuple(n / FPS for n in self._indices())

    def _indices(self) -> list[int]:
        return list(range(FRAMES)) if self.frames == FRAMES else frame_indices(FRAMES, 1.0, self.frames)

    def feature_key(self, clip: str) -> str:
        """Return the key of the clip's cached features: it changes with everything that its pixels depend on."""
        return "/".join(map(str, (_pixels_fingerprint(clip.split("/")[1]), clip, *self.key)))

    @property
    def key(self) -> tuple[int, ...]:
        """What this spec adds to keys and fingerprints: nothing where it is the default."""
        return () if self == RenderSpec() else (self.frames, self.image_size)


def fingerprint(level: str, *parts: object) -> str:
    """Hash `parts` together with clips, captions and questions of every scenario as the present code generates them.

    The fingerprint changes when any part of the world changes. Cell keys and cached features depend on it.
    """
    digest = hashlib.sha256("/".join(map(str, (level, *parts))).encode())
    for number in range(4):
        rng = Rng("probe", number)
        scenes = [(generate(scenario, rng, LEVELS[level]), FRAMES) for scenario in SCENARIOS]
        scenes.append((static_scene(rng, LEVELS[level]), 1))
        for scene, frames in scenes:
            asked = (image_questions if frames == 1 else questions)(scene, rng)
            texts = f"({caption(scene)!r}, {_listed(map(_question_text, asked))})"
            digest.update(render(scene, frames).tobytes() + texts.encode())
    return digest.hexdigest()[:16]


# Fingerprints contain items and questions in these forms. They are written out, so that renaming a class or a field does not
# change the key of every finished cell.


def _question_text(question: Question) -> str:
    return f"Question(task={question.task!r}, text={question.text!r}, options={question.options!r}, answer={question.answer!r})"


def _item_text(item: Item) -> str:
    return (
        f"Item(id={item.id!r}, task={item.task!r}, clip={item.clip!r}, question={item.question!r}, options={item.options!r}, "
        f"answer={item.answer!r}, medium='video', media='', instruction='')"
    )


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


@cache
def _pixels_fingerprint(level: str) -> str:
    return fingerprint(level, "pixels")


class WorldBench:
    """Benchmark with `items_per_task` items of every task and several items per clip.

    Gold answers are balanced in tasks with few answers.
    """

    problems: Sequence[Problem] = ()

    def __init__(
        self,
        items_per_task: int = ITEMS_PER_TASK,
        level: str = NORMAL,
        tasks: Sequence[str] = tuple(TASKS),
        split: str = "eval",
        spec: RenderSpec = RenderSpec(),
    ) -> None:
        """Choose the items; they are generated when they are first read.

        Args:
            items_per_task: Number of items of each task.
            level: A key of LEVELS.
            tasks: Keys of TASKS.
            split: Name of the split that clips are drawn from.
            spec: Number and size of the frames.
        """
        self.items_per_task, self.level, self.split, self.spec = items_per_task, level, split, spec
        self.tasks = tuple(tasks)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the items and of everything that their pixels depend on."""
        return fingerprint(self.level, "bench", _listed(map(_item_text, self.items)), *self.spec.key)

    @cached_property
    def items(self) -> Sequence[Item]:
        """All items, sorted by task and id. Clips are drawn until every task is full."""
        missing = Counter(dict.fromkeys(self.tasks, self.items_per_task))
        # no answer of a task with few answers is gold more often than its even share
        share = {task: -(-self.items_per_task // len(TASKS[task].answers)) for task in self.tasks if TASKS[task].answers}
        golds: Counter[tuple[str, str]] = Counter()
        out: list[Item] = []
        number = 0
        while missing.total():
            clip = f"world/{self.level}/{self.split}/{VIDEO}/{number}"
            asked_tasks: set[str] = set()
            taken = 0
            for question in questions(scene_of(clip), Rng(clip, "questions")):
                task, gold = question.task, (question.task, question.answer)
                if task not in missing or task in asked_tasks:
                    continue
                asked_tasks.add(task)  # one question of a task per clip, the same one whatever the size of the benchmark
                full = task in share and golds[gold] >= share[task]
                if taken == ITEMS_PER_CLIP or not missing[task] or full:
                    continue
                taken += 1
                missing[task] -= 1
                golds[gold] += 1
                name = f"{task}-{number:05d}" if self.level == NORMAL else f"{task}-{self.level}-{number:05d}"
                out.append(Item(name, task, clip, question.text, question.options, question.options.index(question.answer)))
            number += 1
        return sorted(out, key=lambda item: (self.tasks.index(item.task), item.id))

    @property
    def num_entries(self) -> int:
        """The number of items: all are usable."""
        return len(self.items)

    def clips(self) -> Sequence[str]:
        """Return the names of all clips in the order of the items."""
        return list(dict.fromkeys(item.clip for item in self.items))

    def key(self, clip: str) -> str:
        """Return the key of the clip's cached features."""
        return self.spec.feature_key(clip)

    def frames(self, clip: str) -> Frames:
        """Render a clip."""
        return self.spec.render(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return the time of each frame in seconds; empty for an image."""
        return self.spec.seconds(clip)


class WorldTraining:
    """Training data: videos and images of a split, each with a caption or with several questions."""

    problems: Sequence[Problem] = ()
    weights: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self, videos: int, images: int, level: str = NORMAL, split: str = "train", spec: RenderSpec = RenderSpec()
    ) -> None:
        """Choose the samples; they are generated when they are first read.

        Args:
            videos: Number of videos.
            images: Number of images.
            level: A key of LEVELS.
            split: Name of the split that clips are drawn from.
            spec: Number and size of the frames.
        """
        self.videos, self.images, self.level, self.split, self.spec = videos, images, level, split, spec

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that pixels and conversations depend on; the number of samples is not part of it."""
        return fingerprint(self.level, "train", self.split, PAIRS_PER_SAMPLE, _CAPTION_SHARE, *self.spec.key)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All samples: videos, then images."""
        return [self.sample(medium, n) for medium, count in self.media().items() for n in range(count)]

    def media(self) -> Mapping[str, int]:
        """Return the number of samples of each medium."""
        return {VIDEO: self.videos, IMAGE: self.images}

    def sample(self, medium: str, number: int, visit: int = 0) -> Sample:
        """Generate the conversation of one clip; each visit of the same clip has its own conversation."""
        clip = f"world/{self.level}/{self.split}/{medium}/{number}"
        scene, rng = scene_of(clip), Rng(clip, "conversation", visit)
        if rng.bernoulli(_CAPTION_SHARE):
            pairs = [(CAPTION_QUESTION, caption(scene))]
        else:
            asked = questions(scene, rng) if medium == VIDEO else image_questions(scene, rng)
            pairs = [(question.text, question.answer) for question in asked[:PAIRS_PER_SAMPLE]]
        return Sample(clip, medium, clip, tuple(pairs))

    def clips(self) -> Sequence[str]:
        """Return the names of all clips in the order of the samples."""
        return [f"world/{self.level}/{self.split}/{medium}/{n}" for medium, count in self.media().items() for n in range(count)]

    def key(self, clip: str) -> str:
        """Return the key of the clip's cached features."""
        return self.spec.feature_key(clip)

    def frames(self, clip: str) -> Frames:
        """Render a clip."""
        return self.spec.render(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return the time of each frame in seconds; empty for an image."""
        return self.spec.seconds(clip)
