"""The topic pages: they are shipped, shown well in a terminal and a pipe, and they match the code they document."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from qtablate import axes
from qtablate.audit import records
from qtablate.audit.tables import as_csv as audit_csv
from qtablate.cell import outputs
from qtablate.cli import explain as command
from qtablate.cli.main import app
from qtablate.config import fields, validate_config
from qtablate.controls import CONTROLS
from qtablate.errors import ConfigError
from qtablate.execute import local
from qtablate.explain import SETTINGS, TOPICS, page, summary
from qtablate.model import cache
from qtablate.prompts.mvbench import SCORERS
from qtablate.report import (
    compare,
    confirmation,
    cost,
    effects,
    extra_tokens,
    frames,
    items,
    query_diagnostics,
    scorer_agreement,
    token_ablation,
    training,
)
from qtablate.statistics import clustered, estimate, power
from qtablate.video import isolated
from qtablate.world.levels import LEVELS

ROOT = Path(__file__).parent.parent
AXES = tuple(axis.column for axis in axes.AXES)
COLUMNS = {
    "Axes": AXES,
    "cells.csv": frames.CELL_COLUMNS,
    "tasks.csv": frames.TASK_COLUMNS,
    "summary.csv": frames.SUMMARY_COLUMNS,
    "contrasts.csv": effects.COLUMNS,
    "confirmation.csv": confirmation.COLUMNS,
    "training.csv": training.COLUMNS,
    "cost.csv": cost.COLUMNS,
    "items.csv": items.COLUMNS,
    "query_diagnostics.csv": query_diagnostics.COLUMNS,
    "token_ablation.csv": token_ablation.COLUMNS,
    "scorer_agreement.csv": scorer_agreement.COLUMNS,
    "train.csv": outputs.TRAIN_COLUMNS,
    "answers.csv": outputs.ANSWER_COLUMNS,
    "scorers.csv": ("item", "task", "cluster", "gold", *SCORERS, "official_check", "text"),
    "token_ablation.csv of a cell": outputs.ABLATION_COLUMNS,
    "attention.csv": (*outputs.ATTENTION_COLUMNS, "place_FRAME_ROW_COLUMN"),
    "Comparison of two folders": compare.COLUMNS,
}
"""By heading of the page: the columns of the code."""


def documented(section: str) -> dict[str, tuple[str, str]]:
    """Column -> (unit, meaning) of a section of the page; `*axes*` stands for all axes."""
    body = re.split(r"^## ", page("columns"), flags=re.M)
    [text] = [part.partition("\n")[2] for part in body if part.partition("\n")[0] == section]
    out: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| column "):
            names, unit, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            rows = dict.fromkeys(re.findall(r"`(\w+)`", names), (unit, meaning))
            if names == "*axes*":
                rows = documented("Axes")
            assert not set(rows) & set(out), (section, names)
            out |= rows
    return out


@pytest.mark.parametrize("section", COLUMNS)
def test_every_column_is_documented_with_its_unit_and_none_is_unknown(section):
    known = documented(section)
    assert sorted(known) == sorted(COLUMNS[section])
    for name, (unit, meaning) in known.items():
        assert unit, (section, name)
        assert meaning.endswith((".", "`")), (section, name)


def test_columns_of_other_csv_files_are_documented():
    from qtablate.audit.records import Audit, Measurement

    empty = Audit("", "", "fp32", 1, 1, None, 1, 1, "", (), Measurement((), "", (), False, {}), ())
    known = documented("Other CSV files")
    assert set(audit_csv(empty).strip().split(",")) | {"kind", "severity", "subject", "detail"} == set(known)
    assert all(unit for unit, _ in known.values())


def test_the_page_of_columns_has_no_section_that_the_tests_do_not_know():
    headings = set(re.findall(r"^## (.+)$", page("columns"), flags=re.M))
    assert headings == {*COLUMNS, "Other CSV files"}


def test_the_list_of_topics_is_the_list_of_files():
    there = {
        file.name.removesuffix(".md") for file in resources.files("qtablate.explain").iterdir() if file.name.endswith(".md")
    }
    assert there | {SETTINGS} == set(TOPICS)
    for topic in TOPICS:
        assert re.match(r"# [A-Z].*\n\n\S.*\n\n", page(topic)), topic
        assert summary(topic).endswith((".", "?"))


def test_the_settings_page_has_every_setting_and_its_default():
    rows = [line.strip("| ").split(" | ") for line in page(SETTINGS).splitlines() if line.startswith("| `")]
    settings = fields()
    defaults = {row[0].rpartition(" ")[2].strip("`"): row[1] for row in rows}
    assert list(defaults) == [name for _, name in settings]
    assert all(defaults.values())
    for row, option in zip(rows, settings.values(), strict=True):
        assert f"`{option.flag}`" in row[0]
        assert row[2] == option.help
    assert defaults["tokens"] == "0, 32, 64"
    assert defaults["frames"] == "the model's own"
    assert defaults["warmup_ratio"] == "0.1"
    assert defaults["train_language_model"] == "no"


def test_every_setting_is_explained_in_a_written_page_or_the_readme():
    written = (ROOT / "README.md").read_text() + "".join(page(topic) for topic in TOPICS if topic != SETTINGS)
    for option in fields().values():
        for flag in filter(None, (option.flag, option.negative)):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", written), flag


def test_controls_and_scorers_are_explained():
    for name in (*CONTROLS, *SCORERS):
        assert re.search(rf"^\| {name} \|", page("concepts"), flags=re.M), name


def test_yaml_configurations_of_the_page_of_formats_are_valid():
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page("formats"), flags=re.S)]
    configurations = [block for block in blocks if isinstance(block, dict)]
    assert len(configurations) == 2
    for values in configurations:
        validate_config(values)


def test_figures_of_the_pages_are_those_of_the_code():
    text = {topic: page(topic).replace("\n", " ") for topic in TOPICS}
    assert f"(default {cache.LIMIT_GB:g})" in text["formats"]
    assert f"(default {isolated.DEFAULT_TIMEOUT:g})" in text["formats"]
    assert f"mean cosine of their pairs above {extra_tokens.COPIES_COSINE:g}.".replace("0.", ".") in text["concepts"]
    assert f"differ by more than {100 * effects.BUDGET_TOLERANCE:g} % are *not comparable*" in text["statistics"]
    assert f"Seeds are tried up to {power.MOST_SEEDS}, items up to {power.MOST_ITEMS} times" in text["statistics"]
    assert f"that of {100 * power.RANGE:g} % confidence in the variance between seeds" in text["statistics"]
    assert f"With fewer than {clustered.MIN_CLIPS} clips" in text["statistics"]
    assert f"p < {estimate.ALPHA:g}".replace("0.", ".") in text["statistics"]
    assert f"finds in {100 * estimate.POWER:g} % of all repetitions" in text["statistics"]
    assert f"Reading {cost.TEXT_TOKENS} text tokens" in text["columns"]
    assert f"for {local.SILENT_AFTER / 60:g} minute" in text["faq"].replace("for a minute", "for 1 minute")
    for precision, largest in records.TOLERANCE.items():
        assert re.search(rf"^\| [^|]*{precision}[^|]* \| {_power_of_ten(largest)} \|", page("audit"), flags=re.M), precision
    for name, level in LEVELS.items():
        assert re.search(
            rf"{name}.*: .*{level.objects[0]} to {level.objects[1]} objects|{name}.*\| "
            rf"{level.objects[0]} to {level.objects[1]} objects",
            page("world"),
        ), name


def _power_of_ten(value: float) -> str:
    """`1e-5`, as the pages write it."""
    return re.sub(r"e-0?", "e-", f"{value:.0e}")


def test_without_a_topic_the_list_is_shown():
    result = CliRunner().invoke(app, ["explain"])
    assert result.exit_code == 0
    for topic in TOPICS:
        assert f"| `{topic}` | {summary(topic)} |" in result.output


@pytest.mark.parametrize("topic", TOPICS)
def test_a_pipe_gets_the_page_as_plain_text(topic):
    assert CliRunner().invoke(app, ["explain", topic]).output == page(topic)


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("topic", TOPICS)
def test_a_terminal_gets_the_page_in_its_width(topic, width):
    screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    command.show(screen, page(topic))
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = " ".join(lines)
    assert "](" not in shown  # a link leads nowhere from a terminal
    assert "…" not in shown  # nothing is cut off
    assert page(topic).partition("\n")[0].removeprefix("# ") in shown


@pytest.mark.parametrize("topic", ["README", *TOPICS])
def test_code_fits_a_narrow_terminal(topic):
    """A command that is broken in two cannot be copied. The README's set-up commands are read by .ci/run: one line each."""
    text = (ROOT / "README.md").read_text() if topic == "README" else page(topic)
    for block in re.findall(r"^```(?:yaml)?\n(.*?)^```$", text, flags=re.S | re.M):
        lines = [line for line in block.splitlines() if not line.startswith("python3 -m venv")]
        assert all(len(line) <= 78 for line in lines), block


def test_an_unknown_topic_is_one_message_with_the_closest_and_all_known_ones():
    with pytest.raises(ConfigError, match=r"unknown topic 'column'; did you mean 'columns'\? known: concepts, columns, "):
        page("column")
    with pytest.raises(ConfigError, match=r"unknown topic 'zzz'; known: concepts, "):
        page("zzz")


def test_the_command_ends_with_code_2_on_an_unknown_topic_and_never_imports_torch():
    code = (
        "import sys, qtablate.cli.main as cli\n"
        "for words in (['columns'], ['settings'], [], ['Accumulate']):\n"
        "    sys.argv = ['qtablate', 'explain', *words]\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit as stop:\n"
        "        print('code', stop.code or 0)\n"
        "print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert re.findall(r"^code (\S+)$", done.stdout, flags=re.M) == ["0", "0", "0", "2"]
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.startswith("error: unknown topic 'Accumulate'; did you mean 'accumulation'? known: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_installed_package_has_every_page(tmp_path):
    """A wheel is built and unpacked, and the pages are read from there."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "qtablate", source / "qtablate", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as backend; backend.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel] = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    [metadata] = (tmp_path / "installed").glob("*.dist-info/METADATA")
    assert "License-Expression: MIT" in metadata.read_text()
    code = "import qtablate, qtablate.explain as e; print(qtablate.__file__, [len(e.page(t)) for t in e.TOPICS])"
    env = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert shown.stdout == f"{tmp_path / 'installed' / 'qtablate' / '__init__.py'} {[len(page(t)) for t in TOPICS]}\n"
