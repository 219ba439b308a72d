"""report.html: one file without a network, whose figures are those of the frames and whose data never are markup."""

import hashlib
import html.parser
import itertools
import json
import re
import shutil
import time
from base64 import b64decode, b64encode
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored_folder import drawn, folder

from qtablate.errors import QtablateError, StoreError
from qtablate.grid import Fingerprints
from qtablate.model.directory import model_directory
from qtablate.report.build import report
from qtablate.report.page import sheets
from qtablate.report.page.browser import read_answered
from qtablate.report.page.page import page_text, write_page
from qtablate.report.page.svg import inline_svg
from qtablate.report.plots import draw_plots
from qtablate.report.results import load
from qtablate.world.benchmark import WorldBench

EVIL = "</script><img src=x onerror=document.title=1><b>&amp;"
GRID = {(tokens, accum): drawn(0.45 + 0.05 * tokens - 0.1 * accum) for tokens in (0, 4, 8) for accum in (1, 2)}
BENCH = """
import numpy as np
from types import SimpleNamespace
from qtablate.datatypes import Item

def benchmark(frames, image_size, items_per_task):
    options = ("EVIL", "two", "three", "four")
    items = [
        Item("ab"[n % 2] + f"-{n:04d}", "ab"[n % 2], f"clip-{n % 40}", f"What is {n}? EVIL", options, 0) for n in range(80)
    ]
    def pixels(clip):
        return np.full((frames, image_size, image_size, 3), 3 * int(clip.split("-")[1]), np.uint8)
    clips = [f"clip-{n}" for n in range(40)]
    return SimpleNamespace(items=items, problems=[], fingerprint="x", clips=lambda: clips, key=str, frames=pixels)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A finished sweep of a benchmark of one's own, with texts that try to be markup."""
    base = tmp_path_factory.mktemp("page")
    (base / "bench.py").write_text(BENCH.replace("EVIL", EVIL))
    store = folder(base / "r", GRID, seeds=(1, 2, 3), items=80, clips=40, tasks=("a", "b"), bench=f"custom:{base / 'bench.py'}")
    sweep = store.read_sweep()
    from qtablate.data.sources import open_benchmark
    from qtablate.model.directory import read_config

    opened = open_benchmark(sweep.config.data, read_config(sweep.config.data.model))
    prints = Fingerprints("m", "t", opened.fingerprint)
    store.write_sweep(sweep.model_copy(update={"fingerprints": prints, "versions": {"torch": EVIL}}))
    return store.root


@pytest.fixture(scope="module")
def page(root):
    results = load(root)
    return page_text(results, draw_plots(results), run_custom=True)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_items_show_what_every_seed_answered(root, page):
    data, results = data_of(page), load(root)
    assert data["axes"] == "extra tokens/accum"
    assert data["conditions"] == ["0/1", "0/2", "4/1", "4/2", "8/1", "8/2"]
    assert data["seeds"] == [[1, 2, 3]] * 6
    answers = pd.concat(
        {
            key: pd.read_csv(results.store.cell_file(key, "answers.csv")).query("control == 'full'")
            for key in results.cells["key"]
        }
    )
    predicted = answers.reset_index(0, names="key").pivot(index="item", columns="key", values="predicted")
    for name, task, clip, question, options, gold, group, shares, said in data["items"]:
        assert data["tasks"][task] == name[0]
        number = int(name.split("-")[1])
        assert question.startswith(f"What is {number}? ")
        assert options[0].startswith("</script>")
        assert gold == 0
        keys = [f"{tokens}-{accum}" for tokens, accum in GRID]
        assert said == ["".join(str(predicted.loc[name, f"{key}-{seed}"]) for seed in (1, 2, 3)) for key in keys]
        assert shares == ["7327"] * 6  # scores -1;-2 in every answer
        right = [2 * one.count("0") > 3 for one in said]
        assert group == ("all" if all(right) else "none" if not any(right) else "disagree" if any(right[:2]) else "more")
        picture = Image.open(BytesIO(b64decode(data["pictures"][clip].partition(",")[2]))).convert("RGB")
        assert abs(picture.getpixel((3, 3))[0] - 3 * (number % 40)) <= 4
    assert {row[6] for row in data["items"]} == {"all", "none", "disagree", "more"}


def test_its_tables_are_those_of_the_report(root, page):
    results = load(root)
    assert f">{results.headline.answer}</h1>" in page
    row = results.summary.iloc[-1]
    assert f"{100 * row['accuracy']:.1f} ±{100 * row['accuracy_item_stderr']:.1f}" in page
    assert page.count("<svg") == len(draw_plots(results))


def test_nothing_in_the_data_is_markup_and_only_its_own_script_runs(page):
    found = Elements(page).found
    assert [tag for tag, _ in found].count("script") == 2
    assert not [attrs for _, attrs in found if any(name.startswith("on") for name in attrs)]
    assert "<img" not in page
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    policy = next(attrs["content"] for tag, attrs in found if attrs.get("http-equiv") == "Content-Security-Policy")
    hashed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in policy
    assert policy.startswith("default-src 'none'")
    assert EVIL not in page
    assert data_of(page)["items"][0][4][0] == EVIL


def test_it_needs_no_network_and_identifiers_are_unique(page):
    for _, attrs in Elements(page).found:
        for name in ("src", "href", "xlink:href"):
            assert not re.match(r"(https?:)?//", attrs.get(name) or "")
    assert "@import" not in page
    identifiers = [attrs["id"] for _, attrs in Elements(page).found if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    for reference in re.findall(r"url\(#([^)]+)\)", page) + re.findall(r'xlink:href="#([^"]+)"', page):
        assert reference in identifiers


def luminance(color):
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    """WCAG 2.2's ratio of relative luminances."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_enough_contrast_in_light_and_dark(page):
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.DOTALL)]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes[:2]:
        for text, ground in itertools.product(("ink", "soft", "link", "good", "bad", "warn"), ("paper", "panel")):
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        assert contrast(scheme["ink"], scheme["bar"]) >= 4.5
    assert contrast("#777777", "#ffffff") < 4.5  # the formula tells


def test_an_unchanged_page_is_left_and_a_changed_one_is_written(root, tmp_path):
    copy = tmp_path / "r"
    shutil.copytree(root, copy)
    results = load(copy)
    path = write_page(results, [], run_custom=True)
    before = path.stat().st_mtime_ns
    assert write_page(load(copy), []).stat().st_mtime_ns == before
    assert "What is 3?" in path.read_text()
    time.sleep(0.01)
    results.store.write_sweep(results.sweep.model_copy(update={"versions": {"torch": "3"}}))
    assert write_page(load(copy), []).stat().st_mtime_ns != before


def test_a_page_without_texts_is_written_again_when_they_are_there_and_a_broken_one_too(tmp_path):
    world = WorldBench(1)
    store = folder(tmp_path / "r", GRID, items=len(world.items), asked=world.items, items_per_task=1)
    sweep, model = store.read_sweep(), store.root / "gone"
    gone = sweep.config.model_copy(update={"data": sweep.config.data.model_copy(update={"model": str(model)})})
    prints = Fingerprints("m", "t", world.fingerprint)
    store.write_sweep(sweep.model_copy(update={"config": gone, "fingerprints": prints}))
    path = write_page(load(store.root), [])
    assert "Questions, options and clips are not shown: " in path.read_text()
    copy_of_nano = Path(model_directory("nano"))
    shutil.copytree(copy_of_nano, model)
    assert world.items[0].question in write_page(load(store.root), []).read_text()
    path.write_bytes(b"\xff\xfe")
    assert world.items[0].question in write_page(load(store.root), []).read_text()


def test_an_svg_that_no_plot_has_is_refused(root):
    svg = draw_plots(load(root))[0].svg
    assert inline_svg(svg, "a").startswith("<svg")
    for evil in (
        svg + '<meta http-equiv="refresh" content="0;url=https://example.org">',
        svg.replace("</svg>", "<script>1</script></svg>"),
        svg.replace("</svg>", '<a href="https://example.org">x</a></svg>'),
        svg.replace("</svg>", '<g onclick="1"/></svg>'),
        svg.replace("</svg>", '<image href="https://example.org/x.png"/></svg>'),
        svg.replace("</svg>", "<style>body{display:none}</style></svg>"),
        svg.replace("</svg>", '<rect style="fill: url(https://example.org/x)"/></svg>'),
    ):
        with pytest.raises(StoreError, match=r"plots/a\.svg holds .*, which no plot of qtablate has"):
            inline_svg(evil, "a")


def test_items_may_have_numbers_as_names_and_scores_that_are_none(tmp_path):
    named = [replace(item, id=f"{n:03d}", task="NA") for n, item in enumerate(WorldBench(1).items)]
    store = folder(tmp_path / "r", GRID, items=len(named), asked=named)
    path = next((store.root / "cells").glob("*/answers.csv"))
    path.write_text(path.read_text().replace("-1;-2", "nan;-2", 1))
    results = replace_store(load(store.root), store)
    data = data_of(page_text(results, []))
    assert [row[0] for row in data["items"]] == [item.id for item in named]
    assert data["tasks"] == ["NA"]
    assert list(results.items["item"])[:2] == ["000", "001"]
    assert {tuple(row[7]).count("") for row in data["items"]} == {0, 1}


def test_conditions_of_a_split_batch_are_named_by_their_micro_batches(tmp_path):
    grid = {(4, 1): drawn(0.6), (4, 2): drawn(0.6)}
    store = folder(tmp_path / "r", grid, items=20, clips=20, batch_size_is="effective-batch", micro={1: 16, 2: 8})
    results = load(store.root)
    assert list(results.items.columns)[3:] == ["4/1/16", "4/2/8"]
    assert data_of(page_text(results, []))["conditions"] == ["4/1/16", "4/2/8"]


def test_a_report_does_not_run_a_benchmark_of_python_and_says_so(root, tmp_path):
    bench = tmp_path / "bench.py"
    bench.write_text("raise SystemExit('was run')")
    store = load(root).store
    copy = folder(tmp_path / "r", GRID, items=8, clips=8, bench=f"custom:{bench}")
    assert store.root != copy.root
    text = page_text(load(copy.root), [])
    assert "a report does not run" in text
    assert data_of(text)["items"][0][3:5] == ["", []]


def test_another_benchmark_than_that_of_the_sweep_is_not_shown(tmp_path):
    text = page_text(load(folder(tmp_path / "r", GRID, items=8, clips=8).root), [])
    assert "world is not what it was when the sweep ran" in text
    assert data_of(text)["pictures"] == []


def test_without_a_finished_cell_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_FIGURES", "on")
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5)}, failed=(((0, 1), 1), ((0, 1), 2)))
    built = report(store)
    text = (store.root / "report.html").read_text()
    assert store.root / "report.html" in built.files
    assert "No recommendation: no cell has finished." in text
    assert data_of(text) == {}
    assert 'id="browser"' not in text


def test_plots_and_page_can_be_turned_off_by_the_environment(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "r")
    store = load(tmp_path / "r").store
    monkeypatch.setenv("QTABLATE_FIGURES", "off")
    assert {path.suffix for path in report(store).files} == {".csv", ".md"}
    monkeypatch.setenv("QTABLATE_FIGURES", "")
    assert {path.suffix for path in report(store).files} == {".csv", ".md", ".png", ".svg", ".html"}
    monkeypatch.setenv("QTABLATE_FIGURES", "yes")
    with pytest.raises(QtablateError, match="QTABLATE_FIGURES: expected on or off, got 'yes'"):
        report(store)


def test_pictures_begin_with_items_on_which_conditions_disagree_and_keep_to_a_size(root, monkeypatch):
    answered = read_answered(load(root))
    order = sheets.order_of_clips(answered)
    assert sorted(order) == sorted(set(answered.clips))
    groups = dict.fromkeys(order, "all")
    for clip, group in zip(answered.clips, answered.groups(), strict=True):
        groups[clip] = group if group != "all" else groups[clip]
    first_all = next(place for place, clip in enumerate(order) if groups[clip] == "all")
    assert first_all > len(order) // 2

    class Clips:
        def frames(self, clip):
            return np.random.default_rng(0).integers(0, 255, (30, 300, 200, 3), np.uint8)

    sheet = sheets.strip(Clips().frames("x"))
    assert sheet.size == (8 * 65 - 1, 96)
    one = sheets.pictures(Clips(), ["x"]).urls["x"]
    monkeypatch.setattr(sheets, "MAX_BYTES", 3 * len(one))
    made = sheets.pictures(Clips(), order)
    assert len(made.urls) == 4
    assert made.missing == f"{len(order) - 4} clips have no picture here, so that the page stays small."
    monkeypatch.setattr(sheets, "MAX_SECONDS", -1.0)
    assert "takes more than" in sheets.pictures(Clips(), order).missing


def test_a_condition_that_generates_has_no_probabilities(tmp_path):
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5), (4, 1): drawn(0.8)}, items=8, clips=8)
    for path in store.root.glob("cells/*/answers.csv"):
        frame = pd.read_csv(path)
        frame["scores"] = ""
        frame.loc[0, "predicted"] = -1
        frame.to_csv(path, index=False)
    answered = read_answered(replace_store(load(store.root), store))
    assert answered is not None
    assert all(not shares.size for shares in answered.probabilities)


def replace_store(results, store):
    """Give cells whose answers were edited new checksums, so that they count as finished."""
    for key in results.cells["key"]:
        record = store.read_record(str(key))
        store.write_record(replace(record, files=store.checksums(str(key))))
    return load(store.root)
