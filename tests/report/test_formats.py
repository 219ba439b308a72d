"""A report as Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from launch import here
from scored_folder import drawn, folder

from qtablate.report.formats import FORMATS
from qtablate.report.results import load
from qtablate.report.sections import BY_NAME, SECTIONS, WHOLE, tables_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    grid = {(tokens, accum): drawn(0.4 + 0.1 * tokens) for tokens in (0, 4) for accum in (1, 2)}
    return folder(tmp_path_factory.mktemp("f") / "a_b&c", grid, items=80, clips=80, tasks=("a_%", "b")).root


def test_every_section_has_a_table_of_its_own_or_nothing_to_show(root):
    titles = {section.name: [table.title for table in section.tables(load(root)) if table] for section in SECTIONS}
    assert {name for name, of in titles.items() if not of} == {"controls"}  # blind alone stands in the conditions
    assert {"Extra query tokens", "Batch split check"}.isdisjoint(titles["cost"])
    whole = [table.title for table in tables_of(load(root))]
    assert len(whole) == len(set(whole))
    of_tokens = [row[0] for table in BY_NAME["tokens"].tables(load(root)) if table for row in table.rows]
    assert all("extra tokens" in name for name in of_tokens)


def test_csv_is_the_figures_of_one_section(root):
    text = here("report", root, "cost", "--format", "csv")
    here("report", root, "--no-figures")
    assert text == (root / "cost.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO(text)))) == 4
    assert "expected one section" in here("report", root, "--format", "csv", code=2)
    assert "expected one section" in here("report", root, "cost", "tasks", "--format", "csv", code=2)


def test_json_is_strict_and_holds_the_frames(root):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(here("report", root, "--format", "json"), parse_constant=refuse)
    results = load(root)
    assert content["answer"] == results.headline.answer
    assert list(content["sections"]) == [section.name for section in WHOLE]
    assert [row["accuracy"] for row in content["sections"]["conditions"]] == list(results.summary["accuracy"])
    assert content["sections"]["conditions"][0]["temporal_gain"] is None


def test_markdown_is_report_md(root):
    here("report", root, "--no-figures")
    assert here("report", root, "--format", "markdown") == (root / "report.md").read_text()


def test_latex_escapes_and_has_as_many_cells_in_every_row(root):
    text = FORMATS["latex"](load(root), WHOLE)
    assert r"a\_\%" in text
    for rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in rows[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(rows[0]) - 1}
    bare = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)[%#_]", bare)
    assert "±" not in bare


def test_latex_compiles(root, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex")
    body = FORMATS["latex"](load(root), WHOLE)
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "r.tex").write_text(head + "\n" + body + "\n\\end{document}\n")
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "r.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("words", [["tokens", "tasks"], ["--full"], []])
def test_the_terminal_shows_the_sections_that_are_asked_for(root, words):
    text = here("report", root, "--no-figures", *words)
    assert ("Contrasts per task" in text) == (words != [])
    assert ("Cost" in text) == (words == ["--full"])
    assert ("Compared: 4 conditions" in text) == (words != ["tokens", "tasks"])
