"""What each control shows, and that controls bite: a model that needs the video, or its time, does worse without."""

import pytest
import torch

from qtablate.cell.build import PreparedModel
from qtablate.cell.scoring import score_items, summarize
from qtablate.config import EvalConfig
from qtablate.controls import BLIND, CONTROLS, FULL, MISMATCHED_CLIP, SHUFFLED
from qtablate.data.temporal import PERTURBATIONS
from qtablate.datatypes import Item
from qtablate.evaluate.controls import apply_control
from qtablate.evaluate.scores import Scores
from qtablate.report.frames import CELL_COLUMNS
from qtablate.train.device import compute_context


def item(number: int, clip: str, task: str = "a", media: str = "", medium: str = "video") -> Item:
    return Item(f"{task}-{number}", task, clip, "Which?", ("left", "right"), number % 2, medium, media)


ITEMS = [
    item(0, "x 0-4", media="x"),
    item(1, "x 4-8", media="x"),
    item(2, "y", media="y"),
    item(3, "z", "b"),
    item(4, "z", "b"),
]


def features(control: str) -> dict[str, torch.Tensor]:
    return {one.clip: torch.full((1,), float(ord(one.clip[0]) + 1000 * (control != FULL))) for one in ITEMS}


def blank(medium: str) -> torch.Tensor:
    return torch.zeros(1)


def test_the_controls_have_one_list():
    columns = [name.removesuffix("_accuracy") for name in CELL_COLUMNS if name.endswith("_accuracy")]
    assert columns == list(EvalConfig(controls="all").controls) == list(CONTROLS) == [BLIND, *PERTURBATIONS, MISMATCHED_CLIP]
    assert EvalConfig().controls == (BLIND, SHUFFLED)  # what visual gain and temporal gain are made of


def test_as_it_is_and_altered():
    for control in (FULL, *PERTURBATIONS):
        asked, seen = apply_control(control, ITEMS, features, blank)
        assert list(asked) == ITEMS
        assert {name: value.item() for name, value in seen.items()} == {
            name: value.item() for name, value in features(control).items()
        }


def test_blind_items_see_the_empty_clip_of_their_medium():
    asked, seen = apply_control(BLIND, [*ITEMS, item(5, "i", medium="image")], features, blank)
    assert {one.clip for one in asked} == set(seen) == {"video", "image"}
    assert all((value == 0).all() for value in seen.values())
    assert [one.id for one in asked][:5] == [one.id for one in ITEMS]


def test_another_items_clip_is_of_another_file_and_of_the_same_task_where_it_can_be():
    asked, seen = apply_control(MISMATCHED_CLIP, ITEMS, features, blank)
    assert [one.id for one in asked] == [one.id for one in ITEMS]
    clips = [one.clip for one in asked]
    assert clips[:2] == ["y", "y"]  # not the other part of the same file
    assert clips[2] in ("x 0-4", "x 4-8")
    assert set(clips[3:]) <= {"x 0-4", "x 4-8", "y"}  # task b has one file
    assert [one.clip for one in apply_control(MISMATCHED_CLIP, ITEMS, features, blank)[0]] == clips
    assert set(clips) <= set(seen)


def test_a_single_file_has_no_other():
    alone = [item(0, "x"), item(1, "x")]
    assert list(apply_control(MISMATCHED_CLIP, alone, features, blank)[0]) == alone


def test_an_answer_is_the_real_items(tiny, encoder):
    """Scores come in the items' order and name the item, not what it was shown."""
    real = {one.clip: torch.randn(8, 24, generator=torch.Generator().manual_seed(n)) for n, one in enumerate(ITEMS)}
    ready = PreparedModel(tiny, encoder, {}, "", compute_context(tiny, "fp32"))
    for control in (FULL, BLIND, MISMATCHED_CLIP):
        given = score_items(ready, ITEMS, control, lambda _: real, lambda _: None)["likelihood"]
        assert [one.item for one in given] == ITEMS
    blind = score_items(ready, ITEMS, BLIND, lambda _: real, lambda _: None)["likelihood"]
    assert blind[0].log_likelihoods == pytest.approx(blind[1].log_likelihoods)  # the same question of the same nothing


def scores(right: list[bool]) -> list[Scores]:
    out = []
    for one, good in zip(ITEMS, right, strict=True):
        chosen = one.answer if good else 1 - one.answer
        out.append(Scores(one, tuple(-1.0 if n == chosen else -2.0 for n in range(2)), (1, 1)))
    return out


def test_gains_are_paired_differences():
    found = summarize(
        {
            FULL: scores([True, True, True, False, True]),
            BLIND: scores([False, True, False, False, True]),
            "shuffled": scores([True, False, True, True, True]),
        }
    )
    assert found.accuracy.value == pytest.approx(0.8)
    assert {name: one.value for name, one in found.controls.items()} == {BLIND: pytest.approx(0.4), "shuffled": 0.8}
    assert found.visual_gain.value == pytest.approx(0.4)
    assert found.temporal_gain.value == pytest.approx(0)
    assert found.temporal_gain.stderr > 0
    assert {task.task: task.controls["shuffled"].value for task in found.tasks} == {"a": pytest.approx(2 / 3), "b": 1.0}


def test_a_control_that_was_not_run_is_missing_and_never_zero():
    found = summarize({FULL: scores([True] * 5), BLIND: scores([False] * 5)})
    assert found.temporal_gain.value is None
    assert set(found.controls) == {BLIND}
