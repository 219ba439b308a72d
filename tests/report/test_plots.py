"""Plots hold the numbers of the frames, have the same bytes for the same data, and are drawn again only where these change."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_cells import Finisher
from settings import config

from qtablate import load
from qtablate.report.build import report
from qtablate.report.plots import PLOTS, draw_plots, drawings, style
from qtablate.report.plots.conditions import condition_frame, extremes, interval_half
from qtablate.report.plots.cost import MAX_LABELS
from qtablate.report.plots.lines import MAX_SERIES, lines_over
from qtablate.report.plots.losses import loss_window
from qtablate.store import Store
from qtablate.sweep import executors
from qtablate.sweep import run as runs
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import make_plan

AXES = ("extra_num_query_tokens", "accumulate_grad_batches")


def accuracy(cell) -> float:
    """More with tokens, less with accumulation."""
    return 0.5 + 0.03 * cell.condition.extra_num_query_tokens - 0.02 * cell.condition.accumulate_grad_batches


def make(folder: Path, monkeypatch, finish=accuracy, **changes) -> Path:
    """Run a sweep whose cells finish at once, and give them losses."""
    levels = {"tokens": (0, 4), "accum": (1, 2), "seeds": (1, 2), "samples": 64, "items_per_task": 1, "jobs": 1}
    plan = make_plan(config(**levels | changes, out=folder))
    with monkeypatch.context() as patch:
        patch.setattr(executors, "run_jobs", Finisher(finish))
        with joined(plan.store, plan.config):
            runs.run_plan(plan)
    for number, key in enumerate(cell.key for cell in plan.store.read_sweep().cells if plan.store.finished(cell.key)):
        train(plan.store, key, 1.0 + 0.1 * number)
    return folder


def train(store: Store, key: str, level: float) -> None:
    """Write eight steps of a cell, and its record after them."""
    path = store.cell_file(key, "train.csv")
    steps = pd.concat([pd.read_csv(path).head(1)] * 8, ignore_index=True).astype(object)
    steps["step"] = range(8)
    steps["samples_seen"] = [8 * (step + 1) for step in range(8)]
    steps["loss"] = [level / (step + 1) for step in range(8)]
    steps.to_csv(path, index=False)
    store.write_record(dataclasses.replace(store.read_record(key), files=store.checksums(key)))


@pytest.fixture(autouse=True)
def figures_are_on(monkeypatch):
    monkeypatch.setenv("QTABLATE_FIGURES", "on")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders that the tests copy: 2 x 2 conditions and one condition, with plots; others with less or nothing finished."""
    root = tmp_path_factory.mktemp("plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QTABLATE_CACHE", str(root / "cache"))
        make(root / "grid", patch)
        make(root / "one", patch, tokens=(4,), accum=(1,), seeds=(1,))
        make(root / "unfinished", patch, finish=_fails)
        make(root / "pending", patch, finish=lambda cell: None)
    draw_plots(load(root / "grid"))
    draw_plots(load(root / "one"))
    return root


def _fails(cell) -> float | None:
    condition = cell.condition
    if condition.extra_num_query_tokens and condition.accumulate_grad_batches == 2:
        return None
    return None if condition.extra_num_query_tokens and cell.seed == 2 else accuracy(cell)


@pytest.fixture
def grid(made, tmp_path):
    return Path(shutil.copytree(made / "grid", tmp_path / "grid"))


@pytest.fixture
def one(made, tmp_path):
    return Path(shutil.copytree(made / "one", tmp_path / "one"))


@pytest.fixture(scope="module")
def figures(made):
    """The drawn figures of the 2 x 2 folder by name, and its results."""
    results = load(made / "grid")
    return {drawing.name: drawing.figure() for drawing in drawings(results)}, results


def lines_of(panel, gid: str) -> list:
    return [line for line in panel.lines if line.get_gid() == gid]


def test_every_plot_of_a_grid_is_drawn(grid):
    plots = draw_plots(load(grid))
    assert [plot.name for plot in plots] == ["tokens", "accumulation", "interaction", "tasks", "pareto", "losses"]
    assert [name for name, _, _ in PLOTS] == [*(plot.name for plot in plots), "extra_tokens", "attention"]
    for plot in plots:
        assert plot.path_png.read_bytes().startswith(b"\x89PNG")
        assert plot.path_svg.read_text() == plot.svg
        assert plot.path_png.parent == grid / "plots"
        assert plot.title
        assert plot.caption.endswith(".")
        assert "nan" not in plot.caption
    listed = {"plots.json", *(f"{plot.name}.{ending}" for plot in plots for ending in ("png", "svg"))}
    assert {path.name for path in (grid / "plots").iterdir()} == listed  # nothing half written


def test_one_condition_has_what_compares_nothing(one):
    assert [plot.name for plot in draw_plots(load(one))] == ["tasks", "losses"]


def test_an_unfinished_folder_shows_what_is_there(made, tmp_path):
    folder = shutil.copytree(made / "unfinished", tmp_path / "unfinished")
    results = load(folder)
    drawn = {drawing.name: drawing for drawing in drawings(results)}
    assert list(drawn) == ["tokens", "accumulation", "tasks", "pareto", "losses"]
    assert len(condition_frame(results)) == 3
    assert "1 to 2 each" in drawn["tokens"].caption
    assert len(draw_plots(results)) == 5


def test_nothing_is_drawn_before_a_cell_has_finished(made, tmp_path):
    folder = shutil.copytree(made / "pending", tmp_path / "pending")
    assert draw_plots(load(folder)) == []
    assert not (folder / "plots").exists()


def test_tables_alone_show_what_they_hold(grid):
    report(Store(grid))
    shutil.rmtree(grid / "cells")
    shutil.rmtree(grid / "plots")
    results = load(grid)
    assert results.tables_only
    drawn = [drawing.name for drawing in drawings(results)]
    assert drawn == ["tokens", "accumulation", "interaction", "tasks", "pareto"]
    assert len(draw_plots(results)) == 5


def test_lines_are_the_means_of_the_summary(figures):
    drawn, results = figures
    assert not {"extra_tokens"} & set(drawn)  # one number of extra tokens, of which nothing was measured
    for name, axis, other in (("tokens", *AXES), ("accumulation", *AXES[::-1])):
        panel = drawn[name].axes[0]
        summary = results.summary.sort_values([other, axis])
        means = [list(line.get_ydata()) for line in lines_of(panel, "means")]
        assert np.concatenate(means) == pytest.approx(100 * summary["accuracy"].to_numpy())
        assert [len(line) for line in means] == [2, 2]
        assert [text.get_text().split("\n")[0] for text in panel.get_xticklabels()] == [
            str(n) for n in sorted({*summary[axis]})
        ]
        for line in lines_of(panel, "means"):
            assert np.round(line.get_xdata()).tolist() == [0, 1]


def test_dots_are_the_seeds_of_the_cells(figures):
    drawn, results = figures
    panel = drawn["tokens"].axes[0]
    dots = np.concatenate([line.get_ydata() for line in lines_of(panel, "seeds")])
    assert sorted(dots) == pytest.approx(sorted(100 * results.cells["accuracy"].astype(float)))
    assert len(dots) == 8


def test_the_right_panel_is_the_probability_of_the_correct_option(figures):
    """Scores -1 and -2, the first option correct."""
    drawn, _ = figures
    values = np.concatenate([line.get_ydata() for line in lines_of(drawn["tokens"].axes[1], "means")])
    assert values == pytest.approx(np.full(4, 100 / (1 + np.exp(-1))))


def test_intervals_are_drawn_around_the_means(figures):
    drawn, results = figures
    panel = drawn["tokens"].axes[0]
    conditions = condition_frame(results)
    bars = [segment for container in panel.collections for segment in container.get_segments()]
    halves = sorted((bar[1][1] - bar[0][1]) / 2 for bar in bars)
    assert halves == pytest.approx(sorted(100 * conditions["accuracy_half"]))
    row = results.summary.iloc[0]
    variances = np.array([row["accuracy_item_stderr"] ** 2, row["accuracy_seed_sd"] ** 2 / 2])
    dof = variances.sum() ** 2 / (variances**2 / [row["n_clusters"] - 1, 1]).sum()
    from scipy import stats

    assert conditions["accuracy_half"].iloc[0] == pytest.approx(stats.t.ppf(0.975, dof) * np.sqrt(variances.sum()))


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "stderr", "clusters", "half"),
    [
        (1, float("nan"), 0.01, 10001, 0.0196),
        (3, 0.0, 0.0, 30, 0.0),
        (3, 0.01, float("nan"), 30, float("nan")),
        (3, 0.01, 0.01, 9, float("nan")),
    ],
)
def test_half_an_interval(seeds, seed_sd, stderr, clusters, half):
    assert interval_half(seeds, seed_sd, stderr, clusters) == pytest.approx(half, rel=1e-3, nan_ok=True)


def test_missing_figures_are_no_bars_and_no_lines(grid):
    """One clip, one seed and no control: the summary then holds None."""
    results = load(grid)
    missing = {"accuracy_item_stderr": None, "accuracy_seed_sd": None, "blind_accuracy": None}
    assert len(results.cost) == 4
    results.__dict__["summary"] = results.summary.assign(**missing, n_clusters=1)
    results.__dict__["tasks"] = results.tasks.assign(blind_accuracy=None)
    drawn = {drawing.name: drawing for drawing in drawings(results)}
    panel = drawn["tokens"].figure().axes[0]
    assert [len(container.get_segments()) for container in panel.collections] == []
    assert len(lines_of(panel, "means")) == 2
    assert not lines_of(panel, "blind")
    assert "Dashed" not in drawn["tokens"].caption
    assert drawn["tasks"].title == "Gain over chance by task"
    assert drawn["tasks"].figure().axes[1].get_ylabel() == "gain over chance (points)"


def test_blind_and_chance_are_lines(figures):
    drawn, results = figures
    panel = drawn["tokens"].axes[0]
    for name, column in (("blind", "blind_accuracy"), ("chance", "chance")):
        [line] = lines_of(panel, name)
        assert line.get_ydata()[0] == pytest.approx(100 * results.summary[column].astype(float).mean())
    assert {text.get_text() for text in panel.texts} == {"blind", "chance"}
    assert panel.get_ylim()[0] < 25


def test_differences_are_those_of_the_contrasts(figures):
    drawn, results = figures
    rows = results.contrasts
    rows = rows[(rows["outcome"] == "accuracy") & (rows["task"] == "all") & (rows["axis"] == AXES[0])]
    for panel, kind in zip(drawn["interaction"].axes, ("simple", "interaction"), strict=True):
        mine = rows[rows["kind"] == kind]
        values = np.concatenate([line.get_ydata() for line in lines_of(panel, "differences")])
        assert values == pytest.approx(100 * mine["difference"].to_numpy())
        ends = np.array([bar[:, 1] for container in panel.collections for bar in container.get_segments()])
        assert ends == pytest.approx(100 * mine[["ci_low", "ci_high"]].to_numpy())


def test_the_heat_map_holds_the_gains(figures):
    drawn, results = figures
    panel = drawn["tasks"].axes[0]
    tasks = results.tasks.assign(gain=results.tasks["accuracy"] - results.tasks["blind_accuracy"])
    gains = 100 * tasks.pivot_table(index="task", columns=list(AXES), values="gain")
    [mesh] = panel.collections
    assert mesh.get_array().filled(np.nan).reshape(gains.shape) == pytest.approx(gains.to_numpy())
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert [text.get_text() for text in panel.get_yticklabels()] == ["a  (n 60)", "b  (n 60)"]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0/1", "0/2", "4/1", "4/2"]
    assert [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in panel.texts] == pytest.approx(
        gains.to_numpy().ravel(), abs=0.051
    )


def test_filled_points_are_the_pareto_front(figures):
    drawn, results = figures
    panels = drawn["pareto"].axes
    assert [panel.get_xlabel() for panel in panels] == ["visual tokens"]  # all cells trained 10 s
    cost = results.cost
    for gid, rows in (("front", cost[cost["pareto_by_tokens"]]), ("others", cost[~cost["pareto_by_tokens"]])):
        [line] = lines_of(panels[0], gid)
        assert line.get_xdata().tolist() == rows["visual_tokens"].tolist()
        assert line.get_ydata() == pytest.approx(100 * rows["accuracy"].to_numpy())
    names = [text for text in panels[0].texts if text.get_gid() == "name"]
    assert {text.get_text() for text in names} == {"0/1", "0/2", "4/1", "4/2"}
    boxes = [text.get_window_extent() for text in names]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_losses_are_means_of_windows_over_seeds(figures):
    drawn, results = figures
    train_csv = results.train
    train_csv["window"] = (train_csv["samples_seen"] - 1) // 16
    means = train_csv.groupby([*AXES, "window", "seed"])["loss"].mean().groupby([*AXES, "window"]).mean()
    drawn_lines = lines_of(drawn["losses"].axes[0], "losses")
    assert np.concatenate([line.get_ydata() for line in drawn_lines]) == pytest.approx(means.to_numpy())
    assert drawn_lines[0].get_xdata().tolist() == [8, 24, 40, 56]
    assert loss_window(3200, [8, 32]) == 96
    assert loss_window(64, [8, 16]) == 16


def test_health_of_extra_tokens(grid):
    """Two numbers of extra tokens, whose steps measured them."""
    results = load(grid)
    frame = results.training
    moved = {0: 4, 4: 8}
    shift = {"extra_num_query_tokens": frame["extra_num_query_tokens"].map(moved), "extra_init": "normal"}
    results.__dict__["training"] = frame.assign(
        **shift,
        extra_rank=[3.0, 3.5, 7.0, float("nan")],
        extra_cosine=0.1,
        extra_update=0.5,
        query_update=[1.0, 0.0, 0.5, 0.25],
    )
    results.__dict__["summary"] = results.summary.assign(**shift)
    [drawing] = [drawing for drawing in drawings(results) if drawing.name == "extra_tokens"]
    rank, cosine, update = drawing.figure().axes
    drawn = [line.get_ydata().tolist() for line in lines_of(rank, "means")]
    assert drawn[0] == [3.0, 7.0]
    assert drawn[1][0] == 3.5
    assert np.isnan(drawn[1][1])
    [most] = lines_of(rank, "most")
    assert list(most.get_ydata()) == [4, 8]
    assert cosine.get_ylabel() == "mean cosine of pairs"
    assert [line.get_ydata().tolist()[0] for line in lines_of(update, "means")] == pytest.approx([0.5, np.nan], nan_ok=True)


def test_equal_data_have_equal_bytes(grid):
    first = {plot.name: plot.svg for plot in draw_plots(load(grid))}
    pngs = {path.name: path.read_bytes() for path in (grid / "plots").glob("*.png")}
    shutil.rmtree(grid / "plots")
    again = {plot.name: plot.svg for plot in draw_plots(load(grid))}
    assert first == again
    assert pngs == {path.name: path.read_bytes() for path in (grid / "plots").glob("*.png")}
    for svg in first.values():
        assert "<dc:date>" not in svg
        assert "<text" in svg  # text stays text


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "plots").iterdir()}


def test_unchanged_plots_are_read_back(grid, monkeypatch):
    plots, before = draw_plots(load(grid)), times(grid)
    monkeypatch.setattr("qtablate.report.plots.render", None)
    assert draw_plots(load(grid)) == plots
    assert times(grid) == before


def test_what_changed_is_drawn_again(grid):
    plots, before = draw_plots(load(grid)), times(grid)
    store = Store(grid)
    train(store, store.read_sweep().cells[0].key, 9.0)
    again, after = draw_plots(load(grid)), times(grid)
    assert {name for name in before if before[name] != after[name]} == {"losses.png", "losses.svg", "plots.json"}
    assert [one.name for one, other in zip(plots, again, strict=True) if one.svg != other.svg] == ["losses"]


@pytest.mark.parametrize(
    ("damage", "content"),
    [("losses.svg", b""), ("losses.png", b"\x89PNG"), ("losses.png", None), ("plots.json", b"[1]"), ("plots.json", b"{")],
)
def test_a_damaged_file_is_drawn_again(one, damage, content):
    plots = draw_plots(load(one))
    path = one / "plots" / damage
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert draw_plots(load(one)) == plots
    assert path.read_bytes() == whole


def test_files_of_plots_that_no_longer_apply_go_and_others_stay(one):
    folder = one / "plots"
    index = json.loads((folder / "plots.json").read_text())
    for name in ("old", "mine", "../cells"):
        (folder / f"{name}.svg").write_text("<svg/>")
    (folder / "plots.json").write_text(json.dumps(index | {"old": {}, "../cells": {}}))
    draw_plots(load(one))
    assert not (folder / "old.svg").exists()
    assert (folder / "mine.svg").exists()
    assert (one / "cells.svg").exists()  # no name of a plot leads out of the folder
    assert set(json.loads((folder / "plots.json").read_text())) == set(index)


def test_the_report_lists_the_files(grid):
    shown = report(Store(grid))
    assert {path.name for path in shown.files if path.parent.name == "plots"} == set(times(grid)) - {"plots.json"}


def test_colors_that_a_page_replaces_stand_for_ink_and_grid_alone(grid):
    for plot in draw_plots(load(grid)):
        colors = set(re.findall(r"#[0-9a-f]{6}", plot.svg))
        assert style.INK in colors
        assert not re.search(r"(?<!-)fill: #ffffff", plot.svg)  # no background
    assert style.INK not in {color.lower() for color in style.PALETTE}


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])


def _lab(linear: np.ndarray) -> np.ndarray:
    """Return CIELAB (D65) of a linear sRGB color."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
PROTANOPIA = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
"""Machado, Oliveira and Fernandes 2009, in linear sRGB."""


@pytest.mark.parametrize("sight", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["full", "deuteranopia", "protanopia"])
def test_series_differ_for_every_eye(sight):
    colors = [_rgb(color) for color in style.PALETTE]
    linear = [np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) for rgb in colors]
    seen = [_lab(sight @ color) for color in linear]
    distances = [np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert min(distances) > 15
    for rgb in colors:
        assert 1.05 / (style.relative_luminance(rgb) + 0.05) > 2  # on white


def test_color_never_stands_alone():
    styles = [style.series_style(number) for number in range(len(style.PALETTE))]
    for name in ("color", "marker", "linestyle"):
        assert len({str(each[name]) for each in styles}) == len(styles)


def test_the_color_of_text_stands_out():
    assert style.text_color((1, 1, 1, 1)) == "#0b0b0b"
    assert style.text_color((0.1, 0, 0.3, 1)) == "#fefefe"


def conditions(tokens, accums, mixings=("mixed",)) -> pd.DataFrame:
    """A row per condition, as `condition_frame` makes them."""
    usual = {"micro_batch_size": 8, "extra_lr": 1.0, "lr_scaling": "none", "loss_norm": "tokens", "clip_per": "window"}
    usual |= {"lr_step_per": "window", "adam_beta2": 0.999, "frames": 8, "incorrect": False}
    rows = []
    for n, (token, accum, mixing) in enumerate(itertools.product(tokens, accums, mixings)):
        row = {AXES[0]: token, AXES[1]: accum, "mixing": mixing, "extra_init": "normal" if token else "none", "condition": n}
        rows.append(usual | row | {"accuracy": n / 100, "effective_batch_size": 8 * accum})
    return pd.DataFrame(rows)


def test_many_series_become_averages_and_say_so():
    frame = conditions((0, 8), (1, 2, 4, 8), ("mixed", "random"))
    shown = [*AXES, "mixing"]
    lines = lines_over(frame, *AXES, shown, 8, ["accuracy"])
    assert lines.labels == ["accum 1", "accum 2", "accum 4", "accum 8"]
    assert lines.means["accuracy"].tolist() == pytest.approx([0.005, 0.085, 0.025, 0.105, 0.045, 0.125, 0.065, 0.145])
    assert "mean over all conditions" in lines.note
    assert "mixing" in lines.note
    many = lines_over(conditions((0, 8), range(1, 31)), *AXES, AXES, 8, ["accuracy"])
    assert len(many.labels) == MAX_SERIES
    assert "6 of the 30 levels" in many.note
    assert not many.averaged
    assert many.means["accuracy"].tolist() == pytest.approx([n / 100 for n in many.means["condition"]])


def test_a_condition_without_extra_tokens_is_on_the_line_of_every_initial_value():
    frame = conditions((0, 8), (1,))
    frame = pd.concat([frame, frame[frame[AXES[0]] == 8].assign(extra_init="zeros", condition=2)], ignore_index=True)
    lines = lines_over(frame, *AXES, [AXES[0], "extra_init"], 8, ["accuracy"])
    assert lines.labels == ["extra init normal", "extra init zeros"]
    assert lines.means["condition"].tolist() == [0, 1, 0, 2]


def test_one_level_is_no_line():
    assert lines_over(conditions((8,), (1, 2)), *AXES, AXES, 8, ["accuracy"]) is None


def test_conditions_that_are_left_out_are_counted():
    kept, note = extremes(conditions(range(10), (1, 2)), 8)
    assert kept["condition"].tolist() == [0, 1, 2, 3, 16, 17, 18, 19]
    assert "Of 20 conditions, the 4 of highest and the 4 of lowest accuracy" in note
    assert extremes(kept, 8)[1] == ""


def test_many_conditions_stay_legible(made, tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(made / "cache"))
    levels = {"tokens": (0, 1, 2, 4, 8), "accum": (1, 2, 4), "extra_init": ("normal", "zeros", "copy"), "seeds": (1,)}
    results = load(make(tmp_path / "many", monkeypatch, finish=lambda cell: 0.6, **levels))
    drawn = {drawing.name: drawing for drawing in drawings(results)}
    count = len(condition_frame(results))
    assert count == 39 > MAX_LABELS
    assert f"Of {count} conditions" in drawn["tasks"].caption
    assert f"Of {count} conditions" in drawn["losses"].caption
    assert f"Of {count} conditions" in drawn["pareto"].caption
    assert "mean over all conditions" in drawn["tokens"].caption
    for drawing in drawn.values():
        figure = drawing.figure()
        style.render(figure, drawing.name)
        assert figure.get_figwidth() <= style.TWO_COLUMNS
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
            assert text.get_fontsize() >= 7


def test_matplotlib_is_imported_only_to_draw():
    code = "import qtablate.report.build, sys; print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
