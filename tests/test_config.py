"""One configuration: from options, a YAML file or Python; validated in one place; written and read back the same."""

import json
import shlex
import sys

import pytest
import yaml
from launch import given_of
from settings import config as small

from qtablate import GridConfig, SweepConfig
from qtablate.axes import AXES
from qtablate.cli.main import main
from qtablate.cli.sweep import read_settings
from qtablate.config import SMOKE, DataConfig, EvalConfig, RunConfig, TrainConfig, command_of, fields, validate_config
from qtablate.errors import ConfigError
from qtablate.sweep.plan import make_plan

FILE = """\
grid:
  tokens: [0, 4]
  accum: 1,2
  seeds: [1]
  lr_scaling: [none, sqrt]
train:
  samples: 64
  image_ratio: 0.25
  budget: steps 6
eval:
  controls: [blind]
data:
  items_per_task: 3
"""
GIVEN = {
    ("grid", "tokens"): "0,4",
    ("grid", "accum"): "1,2",
    ("grid", "seeds"): "1",
    ("grid", "lr_scaling"): "none,sqrt",
    ("train", "samples"): "64",
    ("train", "image_ratio"): "0.25",
    ("train", "budget"): ("steps", "6"),
    ("eval", "controls"): "blind",
    ("data", "items_per_task"): "3",
}
IN_PYTHON = SweepConfig(
    grid=GridConfig(tokens=(0, 4), accum=(1, 2), seeds=(1,), lr_scaling=("none", "sqrt")),
    train=TrainConfig(samples=64, image_ratio=0.25, budget="steps 6"),
    eval=EvalConfig(controls=("blind",)),
    data=DataConfig(items_per_task=3),
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE)
    return path


def test_options_a_file_and_python_give_the_same_cells(file, tmp_path):
    """The same keys, so that what one of them ran the others find finished."""
    given = read_settings(GIVEN, None)
    from_file = read_settings({}, file)
    assert given == from_file == IN_PYTHON
    keys = [[cell.key for cell in make_plan(one, tmp_path / "features").cells] for one in (given, from_file, IN_PYTHON)]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 6  # sqrt is a level of its own beyond the reference batch alone


def test_options_win_over_the_file(file):
    both = read_settings({("grid", "tokens"): "8", ("run", "jobs"): "2"}, file)
    assert both.grid.tokens == (8,)
    assert (both.grid.accum, both.train.samples, both.run.jobs) == ((1, 2), 64, 2)


def test_a_written_configuration_is_read_back_the_same(monkeypatch, tmp_path, capsys):
    saved = tmp_path / "all.yaml"
    words = ["sweep", "--tokens", "0,4", "--accum", "1", "--seeds", "2", "--samples", "32", "--items-per-task", "1"]
    more = ["--controls", "blind", "--train-lm", "--max-grad-norm", "1", "--cell-timeout", "5", "--out", str(tmp_path / "r")]
    monkeypatch.setattr(sys, "argv", ["qtablate", *words, *more, "--dry-run", "--save-config", str(saved)])
    monkeypatch.setattr("qtablate.sweep.estimate.run_jobs", lambda *_: (one for one in ()))
    with pytest.raises(SystemExit):
        main()
    assert "Plan of" in capsys.readouterr().out
    text = saved.read_text()
    assert text.startswith("# qtablate sweep --config all.yaml\n")
    read = read_settings({}, saved)
    assert (read.grid.tokens, read.grid.seeds, read.train.samples) == ((0, 4), (2,), 32)
    assert (read.train.train_language_model, read.train.max_grad_norm, read.run.cell_timeout) == (True, 1.0, 5.0)
    assert validate_config(yaml.safe_load(text)) == read
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("one", [SweepConfig(), IN_PYTHON, validate_config(SMOKE)])
def test_as_plain_values_and_back(one):
    assert validate_config(one.to_dict()) == one
    assert SweepConfig.model_validate(json.loads(one.model_dump_json())) == one


def test_listed_conditions_survive_being_written():
    listed = validate_config({"grid": {"conditions": [{"tokens": 0, "accum": 1}, {"tokens": 64, "accum": 4, "extra_lr": 10}]}})
    assert validate_config(listed.to_dict()) == listed
    assert SweepConfig.model_validate(json.loads(listed.model_dump_json())) == listed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {tokenz: 4}", r"sweep.yaml: grid.tokenz: unknown setting; did you mean 'tokens'\? known: seeds"),
        ("gird: {tokens: 4}", r"sweep.yaml: gird: unknown setting; did you mean 'grid'\? known: grid, train, eval, data, run"),
        ("grid: {tokens: [0, x]}", r"sweep.yaml: grid.tokens: 'x' is not a whole number"),
        ("train: {precision: fp8}", r"sweep.yaml: train.precision: expected one of fp32, bf16 or fp16, got fp8"),
        ("train: {learning_rate: -1}", r"sweep.yaml: train.learning_rate: expected a positive number, got -1"),
        ("train: {train_language_model: maybe}", r"sweep.yaml: train.train_language_model: expected true or false, got maybe"),
        ("train: {budget: days 3}", r"sweep.yaml: train.budget: unknown value 'days'; known: samples, steps, tokens"),
        ("train: {samples: yes}", r"sweep.yaml: train.samples: expected a value, got true"),
        ("grid: {tokens: [0, true]}", r"sweep.yaml: grid.tokens: .*[Tt]rue"),
        ("run: {out: ''}", r"sweep.yaml: run.out: expected the name of a folder, got an empty text"),
        ("train: {budget: {unit: steps}}", r"sweep.yaml: train.budget.size: expected a value, got none"),
        ("run: {jobs: 0}", r"sweep.yaml: run.jobs: expected a whole number of 1 or more, got 0"),
        ("grid: 4", r"sweep.yaml: grid: expected settings by name, got 4"),
        ("[1, 2]", r"--config: .*sweep.yaml should hold settings by section: grid, train, eval, data, run"),
        ("grid: {tokens: 4", r"--config: .*sweep.yaml is not YAML"),
        ("train: {samples: 1}\ntrain: {samples: 2}", r"--config: .*is not YAML: 'train' is given twice"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place_and_the_remedy(text, message, file):
    file.write_text(text)
    with pytest.raises(ConfigError if "YAML" not in message else Exception, match=message):
        read_settings({}, file)


def test_an_empty_section_is_the_default(file):
    file.write_text("grid:\ntrain: {samples: 64}\n")
    assert read_settings({}, file) == validate_config({"train": {"samples": 64}})


def test_a_budget_of_samples_is_the_number_of_samples(file):
    file.write_text("train: {budget: samples 64}\n")
    assert read_settings({}, file) == validate_config({"train": {"samples": 64}})


def test_an_option_cannot_change_one_of_the_listed_conditions(file):
    file.write_text("grid: {conditions: [{tokens: 0, accum: 1}]}\n")
    with pytest.raises(ConfigError, match=r"--tokens: .*sweep.yaml lists conditions one by one"):
        read_settings({("grid", "tokens"): "8"}, file)
    assert read_settings({("grid", "seeds"): "1,2"}, file).grid.seeds == (1, 2)


def test_options_switch_off_what_a_file_switches_on(file, monkeypatch, tmp_path, capsys):
    file.write_text("train: {gradient_checkpointing: true}\neval: {diagnose: true}\n")
    saved = tmp_path / "all.yaml"
    monkeypatch.setattr(
        sys,
        "argv",
        f"qtablate sweep --config {file} --no-diagnose --no-gradient-checkpointing --dry-run --save-config {saved}".split(),
    )
    monkeypatch.setattr("qtablate.sweep.estimate.run_jobs", lambda *_: (one for one in ()))
    with pytest.raises(SystemExit):
        main()
    read = read_settings({}, saved)
    assert (read.eval.diagnose, read.train.gradient_checkpointing) == (False, False)


def test_a_configuration_that_cannot_be_saved_is_a_mistake_of_the_user(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", f"qtablate sweep --dry-run --save-config {tmp_path}/none/all.yaml".split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--save-config: " in (told := capsys.readouterr().err)
    assert "cannot be written" in told


def test_every_mistake_is_told_at_once_and_options_are_called_by_their_flags():
    with pytest.raises(ConfigError) as raised:
        read_settings({("grid", "tokens"): "x", ("train", "learning_rate"): "nan"}, None)
    lines = str(raised.value).splitlines()
    assert lines == [
        "--tokens: 'x' is not a whole number; give a comma list such as 0,32,64",
        "--lr: expected a positive number, got nan",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 4, "train_language_model": True}, "--lora trains an adapter beside the frozen language model"),
        ({"controls": ("shuffled",)}, "--controls: blind must be among them"),
        ({"lr_reference_batch": 8}, "--lr-reference-batch is the batch size that --lr is scaled from, and nothing is scaled"),
        ({"clip_per": "micro_batch"}, "--clip-per micro_batch .* give --max-grad-norm"),
        ({"items_seed": 1}, "--items-seed selects which --items-per-task"),
        ({"budget": ("samples", 32), "samples": 64}, "--budget samples 32 and --samples 64 differ"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_every_setting_has_an_option_or_is_listed_in_files_alone():
    named = {(section, name) for section, name in fields()}
    assert {("grid", axis.field) for axis in AXES} <= named
    kinds = {name: info.annotation for name, info in SweepConfig.model_fields.items()}
    everything = {(section, name) for section, kind in kinds.items() for name in kind.model_fields}
    assert everything - named == {("grid", "conditions")}
    flags = [option.flag for option in fields().values()]
    assert len(flags) == len(set(flags))


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().jobs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--tokens 0,32,64 --accum 1,4 --confirm 5 --out results/x",
        "--budget steps 300 --lr 0.0015 --controls all --extra-lr 0.5,2 --adam-beta2 0.999,scaled --gradient-checkpointing",
        "--seeds 4,7 --bench world:easy --scorers letter,likelihood --batch-size-is effective-batch --image-ratio 0.25",
        "--out 'a folder'",
        "--only 'tokens=4; seed=1' --no-retry-failed --max-failures 2 --order conditions",
        "--seeds 1,2,3,4 --until-decided --retry-failed",
    ],
)
def test_a_configuration_says_the_command_that_makes_it(words):
    config = read_settings(given_of(shlex.split(words)), None)
    assert read_settings(given_of(shlex.split(command_of(config))[2:]), None) == config


def test_the_command_of_listed_conditions_names_a_file():
    config = validate_config({"grid": {"accum": 1, "conditions": [{"tokens": 0}, {"tokens": 4}], "seeds": [5]}})
    assert command_of(config) == "qtablate sweep --config FILE --seeds 5"
