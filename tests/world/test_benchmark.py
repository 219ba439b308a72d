"""The procedural benchmark: items, balanced answers, no bias in texts, and disjoint splits."""

import hashlib
import itertools
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from qtablate.datatypes import Item
from qtablate.model.directory import base_scores
from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.world.benchmark import ITEMS_PER_CLIP, WorldBench, WorldTraining, scene_of
from qtablate.world.levels import LEVELS, Level
from qtablate.world.questions import TASKS
from qtablate.world.scenarios import SCENARIOS
from qtablate.world.scene import OPPOSITE

SMALL, DEFAULT = WorldBench(24), WorldBench()
LARGE = {level: WorldBench(320 if level == "normal" else 160, level) for level in LEVELS}
OTHER_SPLIT = {level: WorldBench(bench.items_per_task // 2, level, split="train") for level, bench in LARGE.items()}


def of_task(bench: WorldBench, task: str) -> list[Item]:
    return [item for item in bench.items if item.task == task]


def gold(item: Item) -> str:
    return item.options[item.answer]


def test_twenty_tasks_in_the_order_of_mvbench():
    """The names are written out as in MVBench's own notebook."""
    names = (
        "action_sequence action_prediction action_antonym fine_grained_action unexpected_action object_existence "
        "object_interaction object_shuffle moving_direction action_localization scene_transition action_count moving_count "
        "moving_attribute state_change fine_grained_pose character_order egocentric_navigation episodic_reasoning "
        "counterfactual_inference"
    )
    assert list(TASKS) == list(MEDIA_ROOTS) == names.split()
    assert list(dict.fromkeys(item.task for item in DEFAULT.items)) == names.split()


def test_default_benchmark_has_at_least_two_thousand_items():
    assert len(DEFAULT.items) >= 2000
    assert set(Counter(item.task for item in DEFAULT.items).values()) == {len(DEFAULT.items) // 20}


@pytest.mark.parametrize("level", ["easy", "normal", "hard"])
def test_each_level_has_every_task_and_its_own_clips(level):
    bench = WorldBench(10, level)
    assert Counter(item.task for item in bench.items) == dict.fromkeys(TASKS, 10)
    assert {tuple(clip.split("/")[:4]) for clip in bench.clips()} == {("world", level, "eval", "video")}
    assert set(LEVELS) == {"easy", "normal", "hard"}


def test_levels_differ_in_their_clips_and_items():
    made = [WorldBench(10, level) for level in LEVELS]
    for a, b in itertools.combinations(made, 2):
        assert [item.question for item in a.items] != [item.question for item in b.items]
        assert scene_of(a.clips()[0]) != scene_of(b.clips()[0])
    assert [item.clip for item in WorldBench(10).items] == [item.clip for item in made[list(LEVELS).index("normal")].items]


def test_every_task_has_items_per_task_items_and_ids_are_unique():
    assert Counter(item.task for item in SMALL.items) == dict.fromkeys(TASKS, 24)
    assert len({item.id for item in SMALL.items}) == len(SMALL.items)


def test_clips_have_several_items_of_different_tasks():
    clips = defaultdict(list)
    for item in DEFAULT.items:
        clips[item.clip].append(item.task)
    # few tasks ask about one scenario, so most clips have fewer than four items
    assert sum(map(len, clips.values())) / len(clips) > 1.5
    assert max(map(len, clips.values())) == ITEMS_PER_CLIP
    assert all(len(set(tasks)) == len(tasks) for tasks in clips.values())
    assert set(clips) == set(DEFAULT.clips())


def test_ids_name_the_same_items_in_benchmarks_of_any_size():
    larger = {item.id: item for item in LARGE["normal"].items}
    shared = [item for item in SMALL.items if item.id in larger]
    assert len(shared) > 0.5 * len(SMALL.items)
    assert all(larger[item.id] == item for item in shared)


def test_same_items_in_another_process():
    code = "from qtablate.world.benchmark import WorldBench\nprint(WorldBench(24).items)"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(SMALL.items)


def test_fingerprint_of_the_default_benchmark_is_unchanged():
    """The keys of all finished cells contain it: it may change with the clips or the texts only."""
    assert DEFAULT.fingerprint == "4e9ae65a96fa9e6b"
    assert base_scores("nano", DEFAULT.fingerprint)  # the scores in the package are of these items


def test_fingerprints_of_benchmarks_and_splits_differ():
    made = [
        SMALL,
        WorldBench(8),
        WorldBench(8, "easy"),
        WorldBench(8, tasks=["moving_count"]),
        WorldBench(8, split="train"),
        WorldTraining(1, 1),
        WorldTraining(1, 1, "hard"),
        WorldTraining(1, 1, split="pretrain"),
    ]
    assert len({data.fingerprint for data in made}) == len(made)
    assert WorldBench(8).fingerprint == made[1].fingerprint


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_changing_a_scenario_changes_the_fingerprint(scenario, monkeypatch):
    """Cached features are found by the fingerprint, so no part of the world may change unnoticed."""
    before = WorldTraining(1, 1).fingerprint
    generate, share = SCENARIOS[scenario]

    def changed(*arguments):
        parts = generate(*arguments)
        return replace(parts, objects=[replace(obj, form="T") for obj in parts.objects])

    monkeypatch.setitem(SCENARIOS, scenario, (changed, share))
    assert WorldTraining(1, 1).fingerprint != before


@pytest.mark.parametrize("level", LEVELS)
def test_changing_a_level_changes_its_fingerprint(level, monkeypatch):
    before = WorldTraining(1, 1, level).fingerprint
    monkeypatch.setitem(LEVELS, level, Level((4, 4), (1, 1), 3))
    assert WorldTraining(1, 1, level).fingerprint != before


FEW = [name for name, task in TASKS.items() if task.answers]


@pytest.mark.parametrize("task", FEW)
def test_golds_are_balanced_where_answers_are_few(task):
    answers = TASKS[task].answers
    assert Counter(map(gold, of_task(SMALL, task))) == dict.fromkeys(answers, 24 // len(answers))
    by_default = Counter(map(gold, of_task(DEFAULT, task)))
    most = -(-by_default.total() // len(answers))
    assert max(by_default.values()) <= most
    assert min(by_default.values()) >= by_default.total() - most * (len(answers) - 1)


def entropy(items: Iterable[Item], answers: Sequence[str] = ()) -> float:
    """Entropy of the gold texts as a share of that of equally frequent answers (those that occur, or `answers`)."""
    counts = Counter(map(gold, items))
    shares = [count / counts.total() for count in counts.values()]
    return -sum(share * math.log(share) for share in shares) / math.log(len(answers) or len(counts))


@pytest.mark.parametrize("level", LEVELS)
def test_gold_texts_are_close_to_uniform(level):
    """Tasks with few answers have them equally often except for rounding. Other tasks come as close as so few draws from up to
    48 answers can."""
    found = {task: entropy(of_task(LARGE[level], task), TASKS[task].answers) for task in TASKS}
    print(*(f"{task} {share:.3f}" for task, share in found.items()), sep="\n")  # pytest -rP shows it
    assert min(found[task] for task in FEW) >= 0.99
    assert min(found.values()) >= 0.93


def test_entropy_detects_unbalanced_answers():
    golds = [Item(str(n), "t", "c", "q", ("yes", "no"), int(n % 4 == 0)) for n in range(100)]
    assert entropy(golds) < 0.82
    assert entropy(golds[:4] * 2, ("yes", "no", "perhaps")) < 0.6


@pytest.mark.parametrize("level", LEVELS)
def test_tasks_with_constant_options_are_balanced(level):
    for task in TASKS:
        shown = {frozenset(item.options) for item in of_task(LARGE[level], task)}
        if len(shown) == 1:
            assert shown == {frozenset(TASKS[task].answers)}, task


@pytest.mark.parametrize("task", TASKS)
def test_gold_position_is_uniform(task):
    """Over all levels, for each number of options. By chance the bound is exceeded once in ten thousand times."""
    sizes = defaultdict(Counter)
    for bench in LARGE.values():
        for item in of_task(bench, task):
            sizes[len(item.options)][item.answer] += 1
    for size, counts in sizes.items():
        expected, free = counts.total() / size, size - 1
        chi = sum((counts[position] - expected) ** 2 / expected for position in range(size))
        spread = 2 / (9 * free)
        assert chi < free * (1 - spread + 3.7 * spread**0.5) ** 3, counts


NAME = re.compile(r"\w+ (square|disc|triangle|cross|figure|[TLHXUE])\b")


def features(item: Item, option: str) -> list[tuple[str, ...]]:
    """Features from general to specific; the middle one is the question without the name of the object."""
    return [(option,), (NAME.sub("it", item.question), option), (item.question, option)]


def blind_score(train: Iterable[Item], test: Iterable[Item]) -> float:
    """Standard errors above chance of a reader of texts that knows which option was gold for this question in `train`."""
    shown, correct = Counter(), Counter()
    for item in train:
        for option in item.options:
            shown.update(features(item, option))
            correct.update(features(item, option) if option == gold(item) else ())

    def belief(item: Item, option: str) -> float:
        rate = 0.3
        for feature in features(item, option):  # what is seldom seen falls back on the more general
            rate = (correct[feature] + 10 * rate) / (shown[feature] + 10)
        return rate

    hits = chance = variance = 0.0
    for item in test:
        k, beliefs = len(item.options), [belief(item, option) for option in item.options]
        hits += beliefs.index(max(beliefs)) == item.answer
        chance += 1 / k
        variance += (1 - 1 / k) / k
    return (hits - chance) / variance**0.5


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("task", TASKS)
def test_reader_of_texts_is_at_chance(task, level):
    """The reader has learned from another split: halves of one split would share what is frequent by chance."""
    assert blind_score(of_task(OTHER_SPLIT[level], task), of_task(LARGE[level], task)) < 3.5


def test_reader_of_texts_detects_a_bias():
    items = [Item(str(n), "t", "c", "q", ("yes", "no"), int(n % 3 == 0)) for n in range(600)]
    assert blind_score(items[:300], items[300:]) > 3.5


def relations(options: Sequence[str], separator: str) -> list[Counter[tuple[bool, ...]]]:
    """Relations of each option to every other one: an odd one out would differ in them."""
    split = [tuple(option.split(separator)) for option in options]

    def standing(mine: tuple[str, ...], other: tuple[str, ...]) -> tuple[bool, ...]:
        pairs = list(itertools.product(mine, other))
        return (*(p == q for p, q in pairs), *(OPPOSITE.get(p) == q for p, q in pairs))

    return [Counter(standing(mine, other) for other in split if other != mine) for mine in split]


@pytest.mark.parametrize(("task", "separator"), [("action_sequence", " then "), ("scene_transition", " to ")])
def test_all_options_have_the_same_relations_to_the_others(task, separator):
    for item in of_task(LARGE["normal"], task):
        first, *rest = relations(item.options, separator)
        assert all(other == first for other in rest), item.options


WOULD = "counterfactual_inference"


@pytest.mark.parametrize("level", LEVELS)
def test_options_have_the_same_length_and_form(level):
    """All options of a question have the same number of words, and none is in the question. Counterfactual questions are the
    exception: an object that goes needs a direction, see the next test."""
    for item in LARGE[level].items:
        if item.task != WOULD:
            assert len({len(option.split()) for option in item.options}) == 1
        assert not any(f" {option} " in f" {item.question.removesuffix('?')} " for option in item.options)


@pytest.mark.parametrize("level", LEVELS)
def test_counterfactual_options_are_to_stay_and_two_opposite_directions(level):
    """The option of another form is no hint: it is gold as often as each of the other two."""
    items = of_task(LARGE[level], WOULD)
    for item in items:
        stays, a, b = sorted(item.options, key=lambda option: option != "stays")
        assert stays == "stays"
        assert [option.split()[0] for option in (a, b)] == ["goes", "goes"]
        assert OPPOSITE[a.split()[1]] == b.split()[1]
    share = sum(gold(item) == "stays" for item in items) / len(items)
    assert abs(share - 1 / 3) < 4 * (2 / 9 / len(items)) ** 0.5


COLORED = ("unexpected_action", "object_interaction", "moving_attribute", "state_change", "episodic_reasoning")


def test_options_are_colors_where_an_object_is_asked_for():
    for task in COLORED:
        for item in of_task(LARGE["normal"], task):
            assert set(item.options) <= set(TASKS[task].answers)


def digests(frames: Iterable[bytes]) -> set[str]:
    return {hashlib.sha256(clip).hexdigest() for clip in frames}


def test_splits_share_no_clip():
    """Not even by chance: a clip of few objects may be drawn twice. Some hundred clips per split suffice to notice it."""
    bench = DEFAULT
    evaluation = digests(bench.frames(clip).tobytes() for clip in bench.clips())
    splits = [evaluation]
    for split in ("train", "pretrain"):
        data = WorldTraining(600, 200, split=split)
        splits.append(digests(data.frames(clip).tobytes() for clip in data.clips()))
    assert [len(a & b) for a, b in itertools.combinations(splits, 2)] == [0, 0, 0]
    assert len(evaluation) == len(bench.clips()) > 300


def test_images_have_one_frame_and_videos_eight():
    data = WorldTraining(3, 3, split="pretrain")
    assert [sample.clip for sample in data.samples] == data.clips()
    assert [data.frames(sample.clip).shape[0] for sample in data.samples] == [8, 8, 8, 1, 1, 1]
    assert [sample.medium for sample in data.samples] == ["video"] * 3 + ["image"] * 3


def test_each_visit_of_a_clip_has_its_own_conversation():
    data = WorldTraining(60, 0)
    changed = sum(data.sample("video", n).pairs != data.sample("video", n, visit=1).pairs for n in range(60))
    assert changed > 15  # three samples in four are captions, and a clip has one caption
    assert data.sample("video", 1) == data.samples[1]
