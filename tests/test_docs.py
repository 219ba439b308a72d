"""README, topic pages and CONTRIBUTING state what is there: commands, options, links, files, figures of committed results."""

import csv
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import qtablate
from qtablate.audit.records import BATCH, INCORRECT_RULES, TRAINER_MEAN, WINDOW, in_precision
from qtablate.audit.tables import format_difference
from qtablate.cli.main import app
from qtablate.explain import SETTINGS, TOPICS, page, summary
from qtablate.report.frames import SUMMARY_COLUMNS
from qtablate.report.tables import summary_table

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING = (ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
AUDIT = ROOT / "results" / "audit"
DOCUMENTS = {"README": README, "CONTRIBUTING": CONTRIBUTING, **{topic: page(topic) for topic in TOPICS}}
COMMAND = typer.main.get_command(app)


def marked(text: str, mark: str) -> str:
    """The lines between `<!-- mark -->` and the next `<!-- end -->`."""
    return text.partition(f"<!-- {mark} -->\n")[2].partition("\n<!-- end -->")[0]


def test_readme_table_is_that_of_the_committed_results():
    file = ROOT / "results" / "reference" / "nano-world" / "summary.csv"
    summary = pd.read_csv(file, keep_default_na=False, na_values=[""]).reindex(columns=SUMMARY_COLUMNS)
    table = summary_table(summary, "3200 samples per cell")
    assert marked(README, "results/nano-world") == "\n".join(table.markdown().splitlines()[2:])


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_readme_begins_as_the_report_does():
    report = (ROOT / "results" / "reference" / "nano-world" / "report.md").read_text()
    first, second, *_ = [line for line in report.splitlines()[1:] if line]
    assert marked(README, "headline") == f"> {first}"
    said = " ".join(README.partition("Here three seeds decide: ")[2].partition(", where the")[0].split())
    one, four = said.split(", and by ")
    assert one in second
    assert f"32 beats 0 by {four}" in second


def test_audit_table_is_that_of_the_committed_results():
    micro_mean, none, clip = INCORRECT_RULES
    columns = {
        "fp32": (WINDOW, BATCH),
        "fp64": (in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64")),
        "micro_mean": (micro_mean, WINDOW),
        "none": (none, WINDOW),
        "clip_per micro_batch": (clip, WINDOW),
        "Trainer, own mean": (TRAINER_MEAN, WINDOW),
    }
    with (AUDIT / "nano.csv").open() as file:
        figures = {
            (int(row["accumulate_grad_batches"]), row["gradient"], row["reference"]): format_difference(float(row["value"]))
            for row in csv.DictReader(file)
            if row["metric"] == "relative_difference"
        }
    table = [f"| accum | {' | '.join(columns)} |", "|---:" * (1 + len(columns)) + "|"]
    table += [
        f"| {accum} | {' | '.join(figures[accum, *pair] for pair in columns.values())} |"
        for accum in dict.fromkeys(accum for accum, *_ in figures)
    ]
    block = marked(page("audit"), "results/audit")
    assert block.startswith("\n".join(table) + "\n")
    quoted = [line.removeprefix("- ") for line in block.splitlines() if line.startswith("- ")]
    assert len(quoted) == 3
    assert set(quoted) <= set((AUDIT / "nano.txt").read_text().splitlines())


def test_links_lead_somewhere():
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for file in (*files, ROOT / "results" / "README.md", *(ROOT / "results").glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert target.startswith("http") or (file.parent / target).exists(), target


def test_files_that_topics_name_exist():
    for topic in TOPICS:
        for name in re.findall(r"(?<![\w/])(?:qtablate|examples|results)/[\w./-]+\b", page(topic)):
            made_by_the_command = re.fullmatch(r"results/(nano-world|MODEL-BENCH|mine)", name)
            assert made_by_the_command or (ROOT / name).exists(), (topic, name)


def test_readme_lists_the_topics():
    for topic in TOPICS:
        assert f"| {topic} | {summary(topic)} |" in README


def commands_of(text: str) -> list[list[str]]:
    """The words behind `qtablate` of every command in a code block."""
    out = []
    for block in re.findall(r"^```\n(.*?)^```$", text, flags=re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            out += [shlex.split(words, comments=True) for words in re.findall(r"(?:^|&& |/)qtablate (.*)", line)]
    return out


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_code_block_parses(document):
    for words in commands_of(DOCUMENTS[document]):
        command, context, rest = COMMAND, None, words
        while hasattr(command, "commands") and not (command.invoke_without_command and not rest):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context("qtablate", list(rest), parent=context)


def test_the_main_documents_hold_commands():
    assert len(commands_of(README)) >= 14
    assert sum(len(commands_of(page(topic))) for topic in TOPICS) >= 14


def options_of(command):
    """All options of a command and of those below it."""
    own = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


def test_every_option_that_is_named_exists():
    known = options_of(COMMAND)
    others = {
        "--out",
        "--help",
        "--version",
        "--dist",
        "--no-loadscope-reorder",
        "--install-completion",
        "--log-dir",
    }  # of scripts, typer, pip, pytest and Inspect AI
    for name, text in DOCUMENTS.items():
        used = set(re.findall(r"(?<![\w-])(--[a-z][a-z\d-]+)", text))
        assert used <= known | others, name


def test_every_option_of_every_command_is_explained():
    """In the README or in a page that is written; the options of completion are the parser's own."""
    written = README + "".join(page(topic) for topic in TOPICS if topic != SETTINGS)
    for option in options_of(COMMAND) - {"--install-completion", "--show-completion"}:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", written), option


def test_every_command_that_is_named_exists():
    for name, text in DOCUMENTS.items():
        for words in re.findall(r"`qtablate ([a-z][a-z ]*)", text):
            first, *more = words.split()
            assert first in COMMAND.commands, (name, words)
            below = getattr(COMMAND.commands[first], "commands", None)
            assert below is None or more[0] in below, (name, words)


def test_the_python_of_the_readme_runs(monkeypatch):
    """With the committed results in place of a sweep's."""
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in code.splitlines() if line]) == 3
    asked, tables = [], ROOT / "results" / "reference" / "nano-world"
    results = qtablate.load(tables)
    monkeypatch.setattr(qtablate, "run_sweep", lambda config: asked.append(config) or results)
    monkeypatch.setattr(qtablate, "load", lambda folder: asked.append(folder) or results)
    exec(compile(code, "README.md", "exec"), {})
    config, folder = asked
    assert config.grid.tokens == (0, 32)
    assert folder == "results/nano-world"


def test_every_file_of_the_map_exists_and_every_package_is_in_it():
    tree = CONTRIBUTING.partition("## Map\n")[2].partition("```\n")[2].partition("\n```")[0]
    folder = ROOT / "qtablate"
    assert tree.splitlines()[0] == "qtablate/"
    listed = set()
    for line in tree.splitlines()[1:]:
        name, what = line.split(maxsplit=1)
        listed.add(name)
        assert (folder / name).exists(), name
        for file in re.findall(r"\w+\.py|\w+/", what):
            assert (folder / name / file).exists(), (name, file)
    there = {p.name for p in folder.glob("*.py")} | {f"{p.name}/" for p in folder.iterdir() if (p / "__init__.py").exists()}
    assert there - listed <= {"__init__.py", "__main__.py"}


def test_places_for_new_things_exist():
    """Files by their names, and what is added to by its name in that file."""
    section = CONTRIBUTING.partition("## Where new things go")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 16
    for row in rows:
        for file in re.findall(r"qtablate/[\w/]+\.py", row):
            text = (ROOT / file).read_text()
            for name in re.findall(r"`([A-Z]\w+)`[^`|]*?" + re.escape(file), row):
                assert re.search(rf"\b{name}\b", text), (name, file)


def test_the_package_states_its_license_and_ships_its_pages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["license"] == "MIT"
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    assert {"explain/*.md", "nano/assets/*", "py.typed"} <= set(project["tool"]["setuptools"]["package-data"]["qtablate"])


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["sweep", "--help"],
        ["report", "--help"],
        ["audit", "--help"],
        ["explain", "--help"],
        ["bench", "export", "--help"],
        ["bench", "check", "--help"],
        ["data", "check", "--help"],
    ],
)
def test_help_is_there(words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_changelog_lists_every_renamed_file_and_column():
    spec = importlib.util.spec_from_file_location("rename_columns", ROOT / "results" / "rename_columns.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (ROOT / "CHANGELOG.md").read_text()
    for old, new in {**script.FILES, **script.COLUMNS}.items():
        assert f"| `{old}` | `{new}` |" in text or old.endswith(".png"), old


def test_new_options_of_the_changelog_exist():
    text = (ROOT / "CHANGELOG.md").read_text().partition("| old option |")[2].partition("- Files and columns")[0]
    new = {option for line in text.splitlines() for option in re.findall(r"--[a-z][a-z\d-]+", line.rpartition(" | ")[2])}
    assert len(new) > 14
    assert new <= options_of(COMMAND)
