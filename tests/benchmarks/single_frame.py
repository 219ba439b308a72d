"""Measures for how many tasks one frame is not enough: trains an oracle on the event log of single frames.

    python tests/benchmarks/single_frame.py [--train 5000] [--items 1000] [--epochs 5] [--out results/nano/single_frame.csv]

The oracle is a small transformer over one token for the question, one per option, one per visible object and one for the rest
of the frame. Its input for an object is the color, the form, position and radius in pixels, whether the coin is on it, and
whether its present color and form are named in the question or in an option; for the rest of the frame, the background and
the number of visible dots on the floor (not their positions). One oracle learns all eight frames and receives the frame's
number; it is scored on each frame. The frame in the table is chosen on other questions than those it is scored on, so that
luck in the choice does not count.

A second oracle of the same architecture reads the logs of all eight frames. Where that one is weak too, the result is
unclear. An oracle may miss what longer training would find: one frame reveals at least what is reported.

Bound, stated before any result was known: one frame does not suffice where its accuracy is at most halfway from chance to 100
%.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from learner import SEED, WIDTH, Say, body, clock, correct, fit, markdown, options, write
from numpy.typing import NDArray
from torch import Tensor, nn

from qtablate.datatypes import Item
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize
from qtablate.nano.tokenizer import build, world_words
from qtablate.prompts.registry import NANO_FORMAT
from qtablate.seeds import Rng, derive
from qtablate.world.benchmark import WorldBench, scene_of
from qtablate.world.questions import TASKS
from qtablate.world.scene import BACKGROUNDS, COLORS, FORMS, FRAMES, IMAGE_SIZE, LETTERS, SHAPES, Scene, render

OBJECTS, OPTIONS, WORDS, WORDS_IN_OPTION, EDGE, DOTS = 5, 4, 14, 4, 8, 25  # largest number of each
CHOICE = 400  # questions per task that are used only to choose the frame
_COLORS, _BACKGROUNDS = tuple(COLORS), tuple(BACKGROUNDS)

OBJECT_FACTS = (len(COLORS), len(FORMS), IMAGE_SIZE + 2 * EDGE, IMAGE_SIZE + 2 * EDGE, 8, 2)
"""Number of values of each fact about an object in a frame: color, form, column, row, radius, coin."""
FRAME_FACTS = (len(BACKGROUNDS), DOTS)


FIGURE = len(SHAPES) + len(LETTERS)  # number of `figure`, which is the name of all poses in texts; other forms have their own
NAMES = {name: number for number, name in enumerate((*(form.lower() for form in (*SHAPES, *LETTERS)), "figure"))}
ROLES = 2 + OPTIONS
"""Places where an object may be named: first or second in the question, or in an option."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Questions with the logs of their clips as arrays, one row per question."""

    question: NDArray[np.int64]
    """(row, tokens) of the question, padded with 0."""
    options: NDArray[np.int64]
    """(row, OPTIONS, tokens), padded with 0."""
    named: NDArray[np.int64]
    """(row, ROLES, 2): color and form that are named, -1 for none."""
    gold: NDArray[np.int64]
    objects: NDArray[np.int8]
    """(row, OBJECTS, FRAMES, facts), -1 where an object is not visible."""
    frames: NDArray[np.int8]
    """(row, FRAMES, facts)."""


def log_of(scene: Scene, pixels: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Facts about the objects (OBJECTS, FRAMES, facts) and the frames (FRAMES, facts); positions are rounded to `pixels`."""
    objects = np.full((OBJECTS, FRAMES, len(OBJECT_FACTS)), -1, dtype=np.int8)
    frames = np.zeros((FRAMES, len(FRAME_FACTS)), dtype=np.int8)
    clip = render(scene) if scene.coin_index is not None else None
    for frame in range(FRAMES):
        dots = sum(0 <= x < IMAGE_SIZE and 0 <= y < IMAGE_SIZE for x, y in scene.floor_dots[frame]) if scene.floor_dots else 0
        frames[frame] = _BACKGROUNDS.index(scene.background_at(frame)), dots
        for number, obj in enumerate(scene.objects):
            x, y, r = obj.x[frame], obj.y[frame], obj.radius[frame]
            if not obj.visible[frame] or not all(-r <= place < IMAGE_SIZE + r for place in (x, y)):
                continue
            color = obj.color_at(frame)
            coin = clip is not None and tuple(clip[frame, y, x]) != COLORS[color]
            column, row = ((place + EDGE) // pixels * pixels for place in (x, y))
            objects[number, frame] = _COLORS.index(color), FORMS.index(obj.form_at(frame)), column, row, r, coin
    return objects, frames


def names_in(text: str) -> list[tuple[int, int]]:
    """(color, form) of each object that a text names; -1 where it names no form."""
    words = text.lower().replace("?", "").replace(",", "").split()
    behind = [*words[1:], ""]
    return [(_COLORS.index(a), NAMES.get(b, -1)) for a, b in zip(words, behind, strict=True) if a in COLORS]


def examples(encoder: ConversationEncoder, items: Sequence[Item], pixels: int) -> Examples:
    question, options = np.zeros((len(items), WORDS), np.int64), np.zeros((len(items), OPTIONS, WORDS_IN_OPTION), np.int64)
    named = np.full((len(items), ROLES, 2), -1)
    for row, item in enumerate(items):
        for role, name in enumerate(names_in(item.question)):
            named[row, role] = name
        ids = encoder.token_ids(item.question)
        question[row, : len(ids)] = ids
        for number, option in enumerate(item.options):
            ids = encoder.token_ids(option)
            options[row, number, : len(ids)] = ids
            for name in names_in(option):
                named[row, 2 + number] = name
    logs = {clip: log_of(scene_of(clip), pixels) for clip in {item.clip for item in items}}
    objects, frames = (np.stack([logs[item.clip][n] for item in items]) for n in range(2))
    return Examples(question, options, named, np.array([item.answer for item in items]), objects, frames)


class Words(nn.Module):
    """Encode a short text (..., L) as one vector (..., WIDTH): the sum of embeddings of each word at its position."""

    def __init__(self, vocabulary: int, longest: int) -> None:
        super().__init__()
        self.vocabulary, self.table = vocabulary, nn.Embedding(vocabulary * longest, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.table(ids + self.vocabulary * torch.arange(ids.shape[-1]))
        out: Tensor = (vectors * (ids > 0)[..., None]).sum(-2)
        return out


class Facts(nn.Module):
    """Encode the facts of several frames as one vector. Frames that may not be read are all zeros."""

    def __init__(self, sizes: Sequence[int], numbers: Sequence[int]) -> None:
        super().__init__()
        self.sizes, self.numbers = sizes, list(numbers)
        self.first = nn.Linear(FRAMES * (sum(sizes) + len(numbers)), 2 * WIDTH)
        self.norm, self.second = nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, facts: Tensor, told: Tensor) -> Tensor:
        """(..., FRAMES, facts), (..., FRAMES) bool -> (..., WIDTH)."""
        known = facts.clamp(min=0)
        columns = [nn.functional.one_hot(known[..., n], size).float() for n, size in enumerate(self.sizes)]
        columns.append(
            known[..., self.numbers].float() / IMAGE_SIZE
        )  # positions and sizes as numbers, too, so that they can be compared
        x = torch.cat(columns, -1) * told[..., None]
        hidden = nn.functional.gelu(self.norm(self.first(x.flatten(-2))))
        out: Tensor = self.second(hidden)
        return out


def roles(named: Tensor, objects: Tensor, seen: Tensor) -> Tensor:
    """(row, OBJECTS, 2 * ROLES): whether an object has, in a readable frame, the color and the form named in each role."""
    forms = objects[..., 1].clamp(max=FIGURE)
    looks = torch.stack([objects[..., 0], forms], -1)[:, :, None]  # (row, OBJECTS, 1, FRAMES, 2)
    wanted = named[:, None, :, None]  # (row, 1, ROLES, 1, 2)
    return ((looks == wanted) & (wanted >= 0) & seen[:, :, None, :, None]).any(3).flatten(2).float()


class Oracle(nn.Module):
    """Score each option from texts and logs. The order of objects does not matter."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.question, self.option = Words(vocabulary, WORDS), Words(vocabulary, WORDS_IN_OPTION)
        self.number = nn.Embedding(OPTIONS, WIDTH)
        # a parameter's initial value depends on its name: keep the names of these modules
        self.thing, self.frame = Facts(OBJECT_FACTS, (2, 3, 4)), Facts(FRAME_FACTS, (1,))
        self.role = nn.Linear(2 * ROLES, WIDTH)
        self.body = body()
        self.score = nn.Linear(WIDTH, 1)

    def forward(
        self, question: Tensor, options: Tensor, named: Tensor, objects: Tensor, frames: Tensor, told: Tensor
    ) -> Tensor:
        """Return scores (row, OPTIONS). `told` is (row, FRAMES) bool: which frames may be read."""
        seen = (objects[..., 0] >= 0) & told[:, None]
        asked, absent = self.question(question)[:, None], options[..., 0] == 0
        offered = self.option(options) + self.number.weight + asked
        there = self.thing(objects, seen) + self.role(roles(named, objects, seen)) + asked
        x = torch.cat([offered, there, self.frame(frames, told)[:, None] + asked], 1)
        hidden = torch.cat([absent, ~seen.any(-1), torch.zeros_like(told[:, :1])], 1)
        scores: Tensor = self.score(self.body(x, src_key_padding_mask=hidden)[:, :OPTIONS])[..., 0]
        return scores.masked_fill(absent, -math.inf)


def rows_of(data: Examples, rows: NDArray[np.int64]) -> list[Tensor]:
    """The oracle's inputs except `told`."""
    columns = (data.question, data.options, data.named, data.objects, data.frames)
    return [torch.from_numpy(column[rows].astype(np.int64)) for column in columns]


def told_frames(frame: NDArray[np.int64]) -> Tensor:
    """(row, FRAMES) bool mask of one frame per row, or of all frames for -1."""
    return torch.from_numpy((np.arange(FRAMES) == frame[:, None]) | (frame[:, None] < 0))


def trained(data: Examples, vocabulary: int, one_frame: bool, epochs: int, say: Say) -> Oracle:
    oracle = Oracle(vocabulary)
    initialize(oracle, SEED, "oracle")
    generator = np.random.Generator(np.random.Philox(derive("single-frame", SEED)))
    order = np.concatenate([generator.permutation(len(data.gold)) for _ in range(epochs)])
    shown = generator.integers(0, FRAMES, len(order)) if one_frame else np.full(len(order), -1)

    def loss(span: slice) -> Tensor:
        scores = oracle(*rows_of(data, order[span]), told_frames(shown[span]))
        return nn.functional.cross_entropy(scores, torch.from_numpy(data.gold[order[span]]))

    fit(oracle, loss, len(order), say)
    return oracle


def read(oracle: Oracle, data: Examples, frame: int) -> NDArray[np.bool_]:
    """Whether the oracle answers each question correctly from one frame's log, or from all logs for frame -1."""
    return correct(oracle, lambda rows: oracle(*rows_of(data, rows), told_frames(np.full(len(rows), frame))), data.gold)


def verdict(chance: float, one: float, every: float) -> str:
    bound = chance + (100 - chance) / 2
    if one > bound:
        return "suffices"
    return "does not suffice" if every > bound else "unclear"


def table(items: Sequence[Item], each: Sequence[NDArray[np.bool_]], every: NDArray[np.bool_]) -> pd.DataFrame:
    """`each`: correct answers from each frame alone; `every`: correct answers from all frames."""
    rows = []
    for task in TASKS:
        mine = Rng("single-frame", task).shuffled([n for n, item in enumerate(items) if item.task == task])
        choice, scored = mine[:CHOICE], mine[CHOICE:]
        best = max(range(FRAMES), key=lambda frame: each[frame][choice].mean())
        chance = 100 * float(np.mean([1 / len(items[n].options) for n in scored]))
        one, all_frames = 100 * each[best][scored].mean(), 100 * every[scored].mean()
        rows.append(
            {
                "task": task,
                "n": len(scored),
                "chance": chance,
                "one frame": one,
                "stderr": math.sqrt(one * (100 - one) / len(scored)),
                "frame": best,
                "all frames": all_frames,
                "bound": chance + (100 - chance) / 2,
                "one frame is": verdict(chance, one, all_frames),
                **{f"frame {frame}": 100 * each[frame][scored].mean() for frame in range(FRAMES)},
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = options(__doc__, "results/nano/single_frame.csv", 5000, 1000, 5)
    parser.add_argument("--pixels", type=int, default=1, help="resolution of positions in pixels")
    arguments = parser.parse_args()
    say = clock()
    tokenizer = build(world_words())
    encoder = ConversationEncoder(tokenizer, NANO_FORMAT)
    train = WorldBench(arguments.train, split="singleframe").items
    held_out = WorldBench(arguments.items + CHOICE, split="singleframeheldout").items
    learned, scored = (examples(encoder, items, arguments.pixels) for items in (train, held_out))
    say(f"{len(train)} questions to train on, {len(held_out)} to score")
    oracles = []
    for name, one_frame in (("one frame", True), ("all frames", False)):
        say(f"an oracle that reads {name}")
        oracles.append(trained(learned, len(tokenizer), one_frame, arguments.epochs, say))
    each = [read(oracles[0], scored, frame) for frame in range(FRAMES)]
    every = read(oracles[1], scored, -1)
    say(f"new questions: one frame {100 * np.mean(each):.1f} %, all frames {100 * every.mean():.1f} %")
    out = table(held_out, each, every)
    short = out.drop(columns=[f"frame {frame}" for frame in range(FRAMES)])
    enough = (out["one frame is"] == "does not suffice").sum()
    write(arguments.out, out, f"{markdown(short, 1)}\nOne frame does not suffice for {enough} of {len(out)} tasks.\n")


if __name__ == "__main__":
    main()
