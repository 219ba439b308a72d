"""What the README says is what is there: commands, links, files, and the table of the committed results."""

import re
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from qtablate.cli.main import app
from qtablate.report.tables import summary_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_table_is_that_of_the_committed_results():
    block = README.partition("<!-- results/nano-world -->\n")[2].partition("\n<!-- end -->")[0]
    file = ROOT / "results" / "reference" / "nano-world" / "summary.csv"
    table = summary_table(pd.read_csv(file, keep_default_na=False, na_values=[""]), "4800 samples per cell")
    assert block == "\n".join(table.markdown().splitlines()[2:])


def test_readme_audit_is_that_of_the_committed_output():
    block = README.partition("<!-- results/audit -->\n")[2].partition("\n<!-- end -->")[0]
    said = [line.removeprefix("> ") for line in block.splitlines() if line not in ("```", "", ">")]
    output = [line.rstrip() for line in (ROOT / "results" / "audit" / "nano.txt").read_text().splitlines()]
    places = [output.index(line) for line in said]
    assert len(places) > 15
    assert places == sorted(places)


def test_links_lead_somewhere():
    for file in (ROOT / "README.md", ROOT / "results" / "README.md", *(ROOT / "results").glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert target.startswith("http") or (file.parent / target).exists(), target


def test_every_option_in_the_readme_exists():
    top = typer.main.get_command(app)
    commands = [top, *top.commands.values()]  # type: ignore[attr-defined]
    commands += [below for command in commands for below in getattr(command, "commands", {}).values()]
    known = {option for command in commands for p in command.params for option in (*p.opts, *p.secondary_opts)}
    used = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README)) - {"--out"}
    others = {"--no-deps", "--dist", "--no-loadscope-reorder"}  # of pip and pytest
    assert used - {"--help"} <= known | others


def test_every_file_of_the_tree_exists():
    tree = README.partition("## Layout\n\n```\n")[2].partition("\n```")[0]
    folder = ROOT / "qtablate"
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith("  ") and not line.startswith("    "):
            base = folder / name
            assert base.exists(), name
        elif line.startswith("    "):
            assert (base / name).exists(), name
    listed = {line.split()[0] for line in tree.splitlines() if line.startswith("  ") and not line.startswith("    ")}
    there = {p.name for p in folder.glob("*.py")} | {f"{p.name}/" for p in folder.iterdir() if (p / "__init__.py").exists()}
    assert there - listed <= {"__init__.py", "__main__.py"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["sweep", "--help"],
        ["report", "--help"],
        ["audit", "--help"],
        ["bench", "export", "--help"],
        ["bench", "check", "--help"],
        ["data", "check", "--help"],
    ],
)
def test_help_is_there(words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "Usage" in result.output
