"""The benchmark made of the world: items, balance, what text alone gives away, and splits that do not meet."""

import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pytest

from qtablate.bench.items import Item
from qtablate.bench.mvbench import MEDIA_ROOTS
from qtablate.bench.world.benchmark import ITEMS_A_CLIP, WorldBench, WorldTraining
from qtablate.bench.world.questions import TASKS
from qtablate.bench.world.scene import OPPOSITE

SMALL, LARGE = WorldBench(24), WorldBench(600)


def of_task(bench: WorldBench, task: str) -> list[Item]:
    return [item for item in bench.items if item.task == task]


def gold(item: Item) -> str:
    return item.options[item.answer]


def test_at_least_eight_tasks_under_mvbenchs_names_and_in_its_order():
    assert len(TASKS) >= 8
    assert [task for task in MEDIA_ROOTS if task in TASKS] == list(TASKS)


def test_every_task_has_as_many_items_as_asked_and_ids_are_unique():
    assert Counter(item.task for item in SMALL.items) == dict.fromkeys(TASKS, 24)
    assert len({item.id for item in SMALL.items}) == len(SMALL.items)


def test_several_items_a_clip_of_different_tasks():
    clips = defaultdict(list)
    for item in WorldBench().items:
        clips[item.clip].append(item.task)
    assert sum(map(len, clips.values())) / len(clips) > 2
    assert max(map(len, clips.values())) == ITEMS_A_CLIP
    assert all(len(set(tasks)) == len(tasks) for tasks in clips.values())
    assert set(clips) == set(WorldBench().clips())


def test_an_id_names_the_same_item_in_a_benchmark_of_any_size():
    larger = {item.id: item for item in LARGE.items}
    shared = [item for item in SMALL.items if item.id in larger]
    assert len(shared) > 0.5 * len(SMALL.items)
    assert all(larger[item.id] == item for item in shared)


def test_same_items_in_another_process():
    code = "from qtablate.bench.world.benchmark import WorldBench\nprint(WorldBench(24).items)"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(SMALL.items)


def test_fingerprints_tell_benchmarks_and_splits_apart():
    made = [
        WorldBench(24),
        WorldBench(25),
        WorldBench(24, ["moving_count"]),
        WorldTraining(1, 1),
        WorldTraining(1, 1, "pretrain"),
    ]
    assert len({data.fingerprint for data in made}) == len(made)
    assert WorldBench(24).fingerprint == SMALL.fingerprint


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.answers])
def test_golds_are_balanced_where_answers_are_few(task):
    counts = Counter(map(gold, of_task(SMALL, task)))
    assert counts == dict.fromkeys(TASKS[task].answers, 24 // len(TASKS[task].answers))
    by_default = Counter(map(gold, of_task(WorldBench(), task)))
    assert max(by_default.values()) - min(by_default.values()) <= 3


def test_every_task_that_always_shows_the_same_options_is_balanced():
    for task in TASKS:
        shown = {frozenset(item.options) for item in of_task(LARGE, task)}
        if len(shown) == 1:
            assert shown == {frozenset(TASKS[task].answers)}, task


@pytest.mark.parametrize("task", TASKS)
def test_gold_position_is_uniform(task):
    sizes = defaultdict(list)
    for item in of_task(LARGE, task):
        sizes[len(item.options)].append(item.answer)
    for size, answers in sizes.items():
        counts = Counter(answers)
        expected = len(answers) / size
        chi = sum((counts[position] - expected) ** 2 / expected for position in range(size))
        assert chi < (size - 1) + 4 * (2 * (size - 1)) ** 0.5, counts


def features(item: Item, option: str) -> list[tuple[str, ...]]:
    """From general to special; the middle one is the question without the name of the thing."""
    return [(option,), (re.sub(r"\w+ (square|disc|triangle|cross)", "it", item.question), option), (item.question, option)]


def blind_score(train: Iterable[Item], test: Iterable[Item]) -> float:
    """Standard errors above chance of a reader who knows only texts: which option, for this question, used to be gold."""
    shown, right = Counter(), Counter()
    for item in train:
        for option in item.options:
            shown.update(features(item, option))
            right.update(features(item, option) if option == gold(item) else ())

    def belief(item: Item, option: str) -> float:
        rate = 0.3
        for feature in features(item, option):  # what is seldom seen falls back on the more general
            rate = (right[feature] + 10 * rate) / (shown[feature] + 10)
        return rate

    hits = chance = variance = 0.0
    for item in test:
        k, beliefs = len(item.options), [belief(item, option) for option in item.options]
        hits += beliefs.index(max(beliefs)) == item.answer
        chance += 1 / k
        variance += (1 - 1 / k) / k
    return (hits - chance) / variance**0.5


@pytest.mark.parametrize("task", TASKS)
def test_a_reader_of_texts_stays_at_chance(task):
    items = of_task(LARGE, task)
    scores = [blind_score(items[a::2], items[1 - a :: 2]) for a in (0, 1)]
    assert sum(scores) / 2**0.5 < 3.5


def test_the_reader_finds_a_bias_where_there_is_one():
    items = [Item(str(n), "t", "c", "q", ("yes", "no"), int(n % 3 == 0)) for n in range(600)]
    assert blind_score(items[:300], items[300:]) > 3.5


def relations(options: Sequence[str], separator: str) -> list[Counter[tuple[bool, ...]]]:
    """For each option, how it stands to every other one: what an odd one out would be found by."""
    split = [tuple(option.split(separator)) for option in options]

    def standing(mine: tuple[str, ...], other: tuple[str, ...]) -> tuple[bool, ...]:
        pairs = list(itertools.product(mine, other))
        return (*(p == q for p, q in pairs), *(OPPOSITE.get(p) == q for p, q in pairs))

    return [Counter(standing(mine, other) for other in split if other != mine) for mine in split]


@pytest.mark.parametrize(("task", "separator"), [("action_sequence", " then "), ("scene_transition", " to ")])
def test_every_option_stands_to_the_others_as_the_gold_does(task, separator):
    for item in of_task(LARGE, task):
        first, *rest = relations(item.options, separator)
        assert all(other == first for other in rest), item.options


def test_no_option_differs_from_the_others_in_length_or_form():
    """Where options are not always the same set: all of one number of words, and as many times in the question."""
    for item in LARGE.items:
        assert len({len(option.split()) for option in item.options}) == 1
        if {item.task} - {"object_existence"}:
            assert not any(option in item.question.split() for option in item.options)


def digests(frames: Iterable[bytes]) -> set[str]:
    return {hashlib.sha256(clip).hexdigest() for clip in frames}


def test_splits_share_no_clip():
    bench = WorldBench()
    evaluation = digests(bench.frames(clip).tobytes() for clip in bench.clips())
    splits = [evaluation]
    for split in ("train", "pretrain"):
        data = WorldTraining(300, 300, split)
        splits.append(digests(data.frames(clip).tobytes() for clip in data.clips()))
    for a, b in itertools.combinations(splits, 2):
        assert not a & b
    assert len(evaluation) == len(bench.clips()) > 300


def test_images_have_one_frame_and_videos_eight():
    data = WorldTraining(3, 3, "pretrain")
    assert [sample.clip for sample in data.samples] == data.clips()
    assert [data.frames(sample.clip).shape[0] for sample in data.samples] == [8, 8, 8, 1, 1, 1]
    assert [sample.medium for sample in data.samples] == ["video"] * 3 + ["image"] * 3


def test_another_visit_of_a_clip_tells_another_conversation():
    data = WorldTraining(60, 0)
    changed = sum(data.sample("video", n).pairs != data.sample("video", n, visit=1).pairs for n in range(60))
    assert changed > 30
    assert data.sample("video", 1) == data.samples[1]
