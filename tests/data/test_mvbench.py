"""A folder in MVBench's format: which file is meant, which span of it, and which items are refused by name."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qtablate.data.export import write_mp4
from qtablate.data.mvbench import MVBench
from qtablate.errors import BadMedia, DataError
from qtablate.prompts.mvbench import MEDIA_ROOTS, SYSTEM_PROMPT


def clip(path: Path, *grays: int) -> None:
    """A video at ten frames a second, each frame one flat gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, np.stack([np.full((16, 16, 3), gray, np.uint8) for gray in grays]), scale=1, repeats=1, fps=10)


def entry(video: object = "a.mp4", **more: object) -> dict[str, object]:
    return {"video": video, "question": "What?", "candidates": ["left", "right"], "answer": "right", **more}


def write(folder: Path, **tasks: object) -> None:
    (folder / "json").mkdir(exist_ok=True)
    for task, entries in tasks.items():
        (folder / "json" / f"{task}.json").write_text(json.dumps(entries))


def opened(
    folder: Path, frames: int = 4, side: int = 8, items_a_task: int | None = None, seed: int = 0, **tasks: object
) -> MVBench:
    write(folder, **tasks)
    return MVBench(str(folder), frames, side, items_a_task, seed)


def shown(bench: MVBench) -> list[list[int]]:
    """The grays of each item's frames, to the nearest ten."""
    return [[round(frame.mean() / 10) * 10 for frame in bench.frames(item.clip)] for item in bench.items]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one clip, video/a.mp4, that grows brighter from 0 to 190 in two seconds."""
    clip(tmp_path / "video/a.mp4", *range(0, 200, 10))
    return tmp_path


def test_an_item_is_read_as_written(folder):
    odd = entry(fps=3, subtitle="...", question_id=7, accurate_start=0.1)
    bench = opened(folder, mine=[entry(), {**odd, "question": "Où ?", "candidates": ["a", "b", "b"], "answer": "a"}])
    first, second = bench.items
    assert (first.id, first.task, first.clip, first.media) == ("mine-0000", "mine", "a.mp4", "a.mp4")
    assert (first.question, first.options, first.answer) == ("What?", ("left", "right"), 1)
    assert (second.id, second.question, second.options, second.answer) == ("mine-0001", "Où ?", ("a", "b", "b"), 0)
    assert bench.problems == []
    assert bench.clips() == ["a.mp4"]
    assert bench.frames("a.mp4").shape == (4, 8, 8, 3)
    assert shown(bench)[0] == [20, 70, 120, 160]  # segments of 4.75: 2.375 + (0, 5, 10, 14)


def test_the_tasks_come_in_the_notebooks_order_and_others_after_them(folder):
    assert len(MEDIA_ROOTS) == 20
    names = ["zebra", "apple", "moving_count", "action_sequence", "fine_grained_pose"]
    bench = opened(folder, **{name: [entry()] for name in names})
    assert [item.task for item in bench.items] == ["action_sequence", "moving_count", "fine_grained_pose", "apple", "zebra"]


def test_a_name_means_the_tasks_media_root_then_its_folder_then_video(folder):
    clip(folder / "video/clevrer/video_validation/v.mp4", 50)
    clip(folder / "video/perception/videos/v.mp4", 100)
    clip(folder / "video/action_count/v.mp4", 0)  # the media root comes first
    clip(folder / "video/mine/v.mp4", 150)
    clip(folder / "video/v.mp4", 200)
    clip(folder / "video/state_change/w/x.mp4", 250)
    bench = opened(
        folder,
        moving_count=[entry("v.mp4")],
        action_count=[entry("v.mp4")],
        state_change=[entry("w/x.mp4")],
        mine=[entry("v.mp4")],
        other=[entry("v.mp4")],
    )
    assert bench.problems == []
    tasks = [item.task for item in bench.items]
    assert dict(zip(tasks, [set(grays) for grays in shown(bench)], strict=True)) == {
        "moving_count": {50},
        "action_count": {100},
        "state_change": {250},
        "mine": {150},
        "other": {200},
    }
    # one file name, four files, four clips: a cache keyed by file name would mix them
    assert len({item.clip for item in bench.items}) == len({item.cluster for item in bench.items}) == 5


def test_other_bounds_are_another_clip_of_the_same_cluster(folder):
    spans = [{}, {"start": 0.0, "end": 0.9}, {"start": 1.0, "end": 1.9}, {"start": 1.0}, {"end": 0.5}, {"start": None}]
    bench = opened(folder, mine=[entry(**span) for span in spans])
    assert shown(bench) == [
        [20, 70, 120, 160],
        [10, 30, 50, 80],
        [110, 130, 150, 180],
        [110, 130, 150, 180],  # an open end is the clip's end
        [0, 10, 20, 40],
        [20, 70, 120, 160],
    ]
    clips = [item.clip for item in bench.items]
    assert len(set(clips)) == 5
    assert clips[0] == clips[5]
    assert {item.cluster for item in bench.items} == {"a.mp4"}


def test_a_folder_of_frames_is_a_clip(folder):
    place = folder / "video/tvqa/frames_fps3_hq/scene"
    place.mkdir(parents=True)
    for n in range(1, 13):
        Image.new("RGB", (20, 16), (n * 10,) * 3).save(place / f"{n:05d}.jpg", quality=95)
    bench = opened(folder, episodic_reasoning=[entry("scene", start=1.0, end=3.0)])
    assert shown(bench) == [[30, 50, 60, 70]]  # from 3 to 9: 3.75 + (0, round(1.5) = 2, 3, round(4.5) = 4)
    before = bench.fingerprint
    Image.new("RGB", (22, 16)).save(place / "00004.jpg")
    assert opened(folder).fingerprint != before


REFUSED = [
    ("gold not among candidates", {"answer": "up"}),
    ("gold not among candidates", {"candidates": []}),
    ("duplicate gold", {"candidates": ["right", "left", "right"]}),
    ("missing video", {"video": "none.mp4"}),
    ("path leaves the root", {"video": "../secret.mp4"}),
    ("path leaves the root", {"video": "/etc/hostname"}),
    ("path leaves the root", {"video": "link.mp4"}),
    ("path leaves the root", {"video": "linked/secret.mp4"}),
    ("empty time span", {"start": 1.0, "end": 1.0}),
    ("empty time span", {"start": 1.5, "end": 0.5}),
    ("malformed time span", {"start": "0:01"}),
    ("malformed time span", {"end": [1]}),
    ("malformed item", {"video": None}),
    ("malformed item", {"question": 3}),
    ("malformed item", {"answer": 1}),
    ("malformed item", {"candidates": "left"}),
    ("malformed item", {"candidates": ["left", 2, "right"]}),
    ("malformed item", {"candidates": ["right", " "]}),
    ("malformed item", {"video": ""}),
    ("malformed time span", {"start": float("nan")}),
    ("malformed time span", {"end": float("inf")}),
    ("malformed time span", {"start": True}),
    ("empty time span", {"end": -1.0}),
    ("empty time span", {"start": -5, "end": -1}),
    # which of the two depends on the version of Python
    ("unusable path|missing video", {"video": "a\0.mp4"}),
    ("unusable path|missing video", {"video": "a" * 300 + ".mp4"}),
    ("unusable path|missing video", {"video": "loop.mp4"}),
]


def refused(folder: Path, wrong: object) -> str:
    """The kind of problem of an entry that stands between two good ones."""
    clip(folder / "secret.mp4", 0)
    for name, target in (("link.mp4", folder / "secret.mp4"), ("linked", folder), ("loop.mp4", "loop.mp4")):
        os.symlink(target, folder / "video" / name)
    bench = opened(folder, mine=[entry(), wrong, entry()])
    assert [item.id for item in bench.items] == ["mine-0000", "mine-0002"]
    assert shown(bench) == [[20, 70, 120, 160]] * 2
    assert [problem.subject for problem in bench.problems] == ["mine-0001"]
    return bench.problems[0].kind


@pytest.mark.parametrize(("kind", "changes"), REFUSED, ids=lambda value: repr(value)[:32])
def test_an_unusable_item_is_named_and_the_others_stay(folder, kind, changes):
    assert re.fullmatch(kind, refused(folder, {**entry(), **changes}))


@pytest.mark.parametrize("wrong", [None, "a.mp4", ["a.mp4"], {}])
def test_an_entry_of_another_kind_is_malformed(folder, wrong):
    assert refused(folder, wrong) == "malformed item"


def test_a_broken_clip_is_found_when_it_is_decoded(folder):
    (folder / "video/b.mp4").write_bytes(b"no video")
    bench = opened(folder, mine=[entry("b.mp4"), entry()])
    with pytest.raises(BadMedia, match="broken video"):
        bench.frames(bench.items[0].clip)
    assert bench.frames(bench.items[1].clip).shape == (4, 8, 8, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[{", r"mine\.json is not JSON"), ('{"a": 1}', "expected a list of questions, found dict"), ("\udcff", "is not JSON")],
)
def test_a_json_file_that_is_no_list_is_an_error(folder, content, message):
    write(folder)
    (folder / "json/mine.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_a_place_of_another_kind_is_an_error(folder):
    for place in (folder, folder / "none", folder / "video/a.mp4"):
        with pytest.raises(DataError, match="not a folder in MVBench's format"):
            MVBench(str(place), 4, 8)


def test_the_fingerprint_follows_texts_media_and_size(folder):
    clip(folder / "video/unused.mp4", 0)
    seen = [opened(folder, mine=[entry()]).fingerprint]
    clip(folder / "video/unused.mp4", 0, 0)
    assert opened(folder).fingerprint == seen[0]
    seen += [opened(folder, frames=5).fingerprint, opened(folder, side=9).fingerprint]
    clip(folder / "video/a.mp4", *range(0, 200, 20))
    seen.append(opened(folder).fingerprint)
    stat = (folder / "video/a.mp4").stat()
    os.utime(folder / "video/a.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    seen.append(opened(folder).fingerprint)
    seen.append(opened(folder, mine=[entry(answer="left")]).fingerprint)
    seen.append(opened(folder, other=[entry()]).fingerprint)
    assert len(set(seen)) == len(seen)


def test_a_limit_keeps_each_golds_share_of_a_sorted_file(folder):
    shares = {"left": 0.6, "right": 0.3, "up": 0.1}
    entries = [entry(candidates=list(shares), answer=gold) for gold in shares for _ in range(round(shares[gold] * 100))]
    every = {item.id: item for item in opened(folder, mine=entries, other=entries[:50]).items}
    smaller: set[str] = set()
    for limit in (1, 2, 3, 7, 10, 20, 33, 99, 100, 500):
        items = opened(folder, items_a_task=limit).items
        assert items == opened(folder, items_a_task=limit).items
        assert all(every[item.id] == item for item in items)
        mine = [item for item in items if item.task == "mine"]
        assert len({item.id for item in mine}) == len(mine) == min(limit, 100)
        assert len(items) - len(mine) == min(limit, 50)
        golds = Counter(item.options[item.answer] for item in mine)
        assert all(abs(golds[gold] - share * len(mine)) < 1 for gold, share in shares.items())
        assert smaller <= (smaller := {item.id for item in items})
    ten = [item.id for item in opened(folder, items_a_task=10).items if item.task == "other"]
    assert ten != [f"other-{n:04d}" for n in range(10)]  # of one gold alone: drawn, not the first ones


def test_a_seed_draws_others_in_the_same_shares_and_none_those_of_ever(folder):
    entries = [entry(candidates=["x", "y", "z"], answer="xyz"[n // 14] if n < 42 else "z") for n in range(48)]
    drawn = {seed: opened(folder, items_a_task=6, seed=seed, pinned=entries) for seed in range(4)}
    # as they were drawn before there was a seed: cells of then go on
    assert [item.id for item in drawn[0].items] == [f"pinned-{n:04d}" for n in (7, 13, 17, 27, 32, 47)]
    assert len({tuple(item.id for item in one.items) for one in drawn.values()}) == 4
    assert len({one.fingerprint for one in drawn.values()}) == 4  # in every cell's key
    assert all(Counter(item.answer for item in one.items) == {0: 2, 1: 2, 2: 2} for one in drawn.values())
    assert drawn[3].items == opened(folder, items_a_task=6, seed=3).items


def test_a_media_root_may_be_a_link_but_nothing_below_it_leads_out(folder, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    clip(disk / "b.mp4", *range(0, 200, 10))
    clip(disk.parent / "outside.mp4", *range(0, 200, 10))
    (disk / "out.mp4").symlink_to(disk.parent / "outside.mp4")
    (folder / "video/mine").symlink_to(disk)
    bench = opened(folder, mine=[entry("b.mp4"), entry("out.mp4"), entry("../../a.mp4")])
    assert [item.clip for item in bench.items] == ["mine/b.mp4"]
    assert [problem.kind for problem in bench.problems] == ["path leaves the root"] * 2
    assert bench.frames("mine/b.mp4").shape == (4, 8, 8, 3)


def test_what_is_no_task_beside_the_tasks_is_passed_over(folder):
    (folder / "json").mkdir()
    (folder / "json/._mine.json").write_bytes(b"\0\5")
    (folder / "json/folder.json").mkdir()
    assert [item.task for item in opened(folder, mine=[entry()]).items] == ["mine"]


def test_a_picture_is_asked_about_as_a_picture(folder):
    Image.new("RGB", (40, 20), (200, 0, 0)).save(folder / "video/b.png")
    bench = opened(folder, mine=[entry("b.png"), entry()])
    assert [item.medium for item in bench.items] == ["image", "video"]
    assert bench.frames("b.png").shape == (1, 8, 8, 3)


def test_a_clips_key_follows_whatever_its_pixels_depend_on(folder):
    tasks = {"mine": [entry(), entry(start=0.5)]}
    base = opened(folder, **tasks)
    assert len({base.key(clip) for clip in base.clips()}) == 2
    before = base.key("a.mp4")
    assert opened(folder, items_a_task=1, **tasks).key("a.mp4") == before  # whatever else is in the set
    for changed in (opened(folder, frames=8, **tasks), opened(folder, side=16, **tasks)):
        assert changed.key("a.mp4") != before
    clip(folder / "video/a.mp4", *range(0, 190, 10))
    assert opened(folder, **tasks).key("a.mp4") != before


def test_the_protocols_instruction_stands_before_every_question(folder):
    assert {item.instruction for item in opened(folder, mine=[entry()]).items} == {SYSTEM_PROMPT}


def test_a_small_table_says_where_another_sets_clips_lie(folder):
    (folder / "video/deep/er").mkdir(parents=True)
    (folder / "video/a.mp4").rename(folder / "video/deep/er/a.mp4")
    assert opened(folder, mine=[entry()]).items == []
    (folder / "tasks.json").write_text('{"mine": "deep/er"}')
    assert opened(folder, mine=[entry()]).clips() == ["deep/er/a.mp4"]
    for text, message in (("[", "is not JSON"), ('{"mine": 3}', "should name a folder below video/ for each task")):
        (folder / "tasks.json").write_text(text)
        with pytest.raises(DataError, match=message):
            opened(folder, mine=[entry()])
