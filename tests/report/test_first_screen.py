"""The first screen of a report: the answer in 25 lines of any terminal, and what is left out is said."""

import pytest
from rich.console import Console
from scored_folder import drawn, folder

from qtablate.report.first_screen import LINES, condition_table, first_screen
from qtablate.report.results import load

ACCURACIES = {0: 0.4, 2: 0.45, 4: 0.6, 8: 0.9, 16: 0.7}
MORE = ("More: qtablate report r --full, or a section of it: conditions contrasts tokens", "Written to r: plots/, cells.csv")


def screen(results, width, lines=LINES):
    console = Console(width=width, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        for part in first_screen(results.headline, results.summary, results.cost, width, MORE, lines):
            console.print(part)
        return console.export_text()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """20 conditions on two axes, one of which decides."""
    grid = {(tokens, accum): drawn(share) for tokens, share in ACCURACIES.items() for accum in (1, 2, 4, 8)}
    root = tmp_path_factory.mktemp("large") / "r"
    return load(folder(root, grid, seeds=(1, 2, 3), items=400, clips=400, tasks=("a", "b")).root)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_and_begins_with_the_answer(large, width):
    text = screen(large, width)
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= width
    flat = " ".join(text.split())
    assert flat.startswith("Recommended: ")
    for said in ("Compared: 20 conditions, 3 seeds each", "Warning: ", "More: qtablate report r --full", "Written to r: "):
        assert said in flat


def test_of_many_conditions_it_shows_the_first_and_the_best_and_says_so(large):
    rows = [line.split() for line in screen(large, 80).splitlines() if line.strip()[:1].isdigit()]
    shown = [(int(row[0]), int(row[1])) for row in rows if row[1].isdigit()]
    assert shown[0] == (0, 1)
    best = large.summary.sort_values("accuracy", ascending=False).iloc[0]
    assert (best["extra_num_query_tokens"], best["accumulate_grad_batches"]) in shown
    assert f"Conditions: the first and the {len(shown) - 1} most accurate of 20" in screen(large, 80)
    assert screen(large, 80, lines=60).count("3/3") == 20


def test_a_long_answer_is_shortened_between_clauses_and_says_where_the_rest_is(large):
    short = " ".join(screen(large, 40).split())
    answer = short.partition("... (--full says all of it.)")[0].strip()
    assert answer != short
    assert answer[-1] in ".;"
    assert large.headline.answer.startswith(answer)


def test_without_a_finished_cell_and_without_an_effect_it_says_why(tmp_path):
    failed = load(folder(tmp_path / "f", {(0, 1): drawn(0.5)}, failed=(((0, 1), 1), ((0, 1), 2))).root)
    assert screen(failed, 80).startswith("No recommendation: no cell has finished.")
    one = load(folder(tmp_path / "e", {(0, 1): drawn(0.6), (4, 1): drawn(0.9)}, seeds=(1,), items=200, clips=200).root)
    assert not one.headline.recommends
    assert screen(one, 80).startswith("No recommendation: one seed cannot tell")


def test_how_a_condition_stands_is_said_in_a_word_or_not_at_all(tmp_path):
    grid = {(0, 1): drawn(0.3), (4, 1): drawn(0.9), (8, 1): drawn(0.5)}
    failed = tuple(((8, 1), seed) for seed in (1, 2, 3))
    results = load(folder(tmp_path / "r", grid, seeds=(1, 2, 3), items=400, clips=400, failed=failed).root)

    def words(costs):
        table = condition_table(results.summary, costs, 3)
        return [row[table.columns.index("vs best")] for row in table.rows]

    assert words(results.cost) == ["worse", "best", "not finished"]
    assert words(results.cost.assign(equivalent_to_best="")) == ["", "", "not finished"]


def test_results_show_themselves_at_the_prompt_and_in_a_notebook(large):
    assert repr(large).startswith("Recommended: ")
    assert max(map(len, repr(large).splitlines())) <= 80
    html = large._repr_html_()
    assert html.startswith("<p><strong>Recommended: ")
    assert html.count("<tr>") == 21
