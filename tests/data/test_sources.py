"""From what the user names to training data: one source, a list, or YAML."""

import json

import pytest
from PIL import Image

from qtablate.config import DataConfig
from qtablate.data.sources import TrainingSource, open_training, training_sources, trains_on_world_only
from qtablate.datatypes import IMAGE, VIDEO
from qtablate.errors import DataError

MODEL = {"num_frames": 8, "vision_config": {"image_size": 32}}


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(4):
            Image.new("RGB", (8, 8), (60 * n, 0, 0 if name == "a" else 200)).save(tmp_path / name / f"{n}.png")
        entries = [{"image": f"{n}.png", "QA": [{"q": "What?", "a": name}]} for n in range(4)]
        (tmp_path / f"{name}.json").write_text(json.dumps(entries))
    return tmp_path


def yaml(folder, text: str) -> DataConfig:
    (folder / "mix.yaml").write_text(text)
    return DataConfig(train=str(folder / "mix.yaml"))


def test_one_source_is_itself():
    assert training_sources(DataConfig()) == [TrainingSource("world")]
    assert trains_on_world_only(DataConfig())
    data = open_training(DataConfig(train="world:easy"), MODEL, 8, 0.25)
    assert data.media() == {VIDEO: 6, IMAGE: 2}
    assert data.weights == {}


def test_a_yaml_file_names_sources_from_its_own_folder(folder):
    sources = yaml(
        folder,
        """
        - {file: a.json, media_root: a, weight: 3}
        - {file: b.json, media_root: b, weight: 1}
        - {file: world:easy, media: video}
    """,
    )
    data = open_training(sources, MODEL, 8, 0.25)
    assert data.media() == {IMAGE: 8, VIDEO: 6}
    assert data.weights == {"1-a": 3.0, "2-b": 1.0}
    assert not trains_on_world_only(sources)
    assert len({sample.id for sample in data.samples}) == len(data.samples) == 14
    # the same file name in two sources is two clips
    first, second = (data.frames(f"{name}:1.png") for name in ("1-a", "2-b"))
    assert (first[0, 0, 0, 2], second[0, 0, 0, 2]) == (0, 200)
    assert data.frames("3-world-easy:world/easy/train/video/0").shape == (8, 32, 32, 3)
    assert {sample.clip for sample in data.samples} == set(data.clips())


def test_a_list_on_the_command_line(folder):
    files = f"{folder}/a.json,{folder}/b.json"
    assert training_sources(DataConfig(train=files, media_root="m")) == [
        TrainingSource(f"{folder}/{n}.json", "m") for n in "ab"
    ]
    assert [part.weight for part in training_sources(DataConfig(train=files, mixture_weights=(2, 0.5)))] == [2.0, 0.5]


def test_what_a_mixture_depends_on_is_in_its_fingerprint(folder):
    base = "- {file: a.json, media_root: a, weight: %s}\n- {file: b.json, media_root: b}\n"
    prints = [open_training(yaml(folder, base % weight), MODEL, 8, 0.0).fingerprint for weight in (1, 2, 1)]
    assert prints[0] == prints[2] != prints[1]
    (folder / "b.json").write_text(json.dumps([{"image": "0.png", "QA": [{"q": "What?", "a": "c"}]}]))
    assert open_training(yaml(folder, base % 1), MODEL, 8, 0.0).fingerprint not in prints


def test_a_source_whose_pairs_are_shuffled_says_so_and_is_another(folder):
    plain, off, on = (
        open_training(yaml(folder, f"[{{file: a.json, media_root: a{more}}}, {{file: b.json, media_root: b}}]"), MODEL, 8, 0.0)
        for more in ("", ", shuffle_pairs: false", ", shuffle_pairs: true")
    )
    assert plain.fingerprint == off.fingerprint != on.fingerprint
    assert {(sample.source, sample.shuffle_pairs) for sample in on.samples} == {("1-a", True), ("2-b", False)}
    assert not any(sample.shuffle_pairs for sample in plain.samples)


def test_bad_samples_are_named_with_their_source(folder):
    entries = [{"image": name, "QA": [{"q": "What?", "a": "b"}]} for name in ("none.png", "0.png")]
    (folder / "b.json").write_text(json.dumps(entries))
    data = open_training(yaml(folder, "- {file: a.json, media_root: a}\n- {file: b.json, media_root: b}"), MODEL, 8, 0.0)
    assert [(one.subject, one.kind) for one in data.problems] == [("2-b:sample 0", "missing image")]


MISTAKES = {
    "not yaml": ("a: [", "is not YAML"),
    "no list": ("file: a.json", "should hold a list of sources, each with file, media_root, weight, media, shuffle"),
    "empty": ("[]", "should hold a list of sources"),
    "no file": ("- {weight: 1}", "source 1 of .* should have 'file'"),
    "unknown word": ("- {file: a.json, wieght: 1}", "source 1 of .*: unknown 'wieght'; known: file"),
    "weight of nothing": ("- {file: a.json, weight: 0}", "source 1 of .*: weight: 0 is not a positive number"),
    "weight of text": ("- {file: a.json, weight: much}", "weight: 'much' is not a positive number"),
    "media of a file": ("- {file: a.json, media: video}", "'media' is video or image, and only the world has it"),
    "shuffling as text": ("- {file: a.json, shuffle_pairs: 'yes'}", "'shuffle_pairs' is true or false"),
    "shuffling the world": ("- {file: world, shuffle_pairs: true}", "only a json file has it"),
    "no such file": ("- {file: c.json}", "no file .*c.json"),
    "code": ("!!python/object/apply:os.system ['true']", "is not YAML"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_say_where(name, folder):
    text, message = MISTAKES[name]
    with pytest.raises(DataError, match=message):
        open_training(yaml(folder, text), MODEL, 8, 0.0)


def test_weights_are_as_many_as_sources(folder):
    with pytest.raises(DataError, match="--train names 2 sources, --mixture-weights 1"):
        training_sources(DataConfig(train="a.json,b.json", mixture_weights=(1,)))
    with pytest.raises(DataError, match="no file"):
        training_sources(DataConfig(train=f"{folder}/none.yaml"))
