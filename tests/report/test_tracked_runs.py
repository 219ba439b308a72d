"""The report says where experiment trackers have the runs, and believes nothing of a file that may be someone else's."""

import pytest
from finished_cells import finished_folder
from launch import here

from qtablate.report.build import report
from qtablate.report.page.page import page_text
from qtablate.report.results import load
from qtablate.report.tracked_runs import FILE, TrackedRuns, places, read_tracked, write_tracked


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return finished_folder(tmp_path_factory.mktemp("tracked") / "a b", {0: 0.5, 4: 0.7})


def test_the_commands_that_show_runs_are_in_every_form_of_the_report(store):
    runs = {"key": "digest"}
    write_tracked(store, {"tensorboard": TrackedRuns("", runs), "mlflow": TrackedRuns("http://host:5000", runs)})
    command = f"tensorboard --logdir '{store.root}'/tensorboard"
    shown = " ".join(here("report", store.root).split())
    assert f"Runs in tensorboard: {command}" in shown
    assert "Runs in mlflow: http://host:5000" in shown
    text = (store.root / "report.md").read_text()
    assert f"\nRuns in tensorboard: `{command}`\n" in text
    assert "\nRuns in mlflow: <http://host:5000>\n" in text
    store.table_file(FILE).unlink()
    report(store, figures=False)
    assert "Runs in" not in (store.root / "report.md").read_text()


HOSTILE = {
    "javascript:alert(1)": "<code>javascript:alert(1)</code>",
    "http:evil": "<code>http:evil</code>",
    "http://[": "<code>http://[</code>",
    "\x1b[2Jfile:///x": "<code>[2Jfile:///x</code>",
    "<b>`": "<code>&lt;b&gt;`</code>",
}


def test_only_addresses_of_the_web_become_links_and_all_are_escaped(store):
    runs = {"key": "digest"}
    for url in HOSTILE:
        write_tracked(store, {"wandb": TrackedRuns(url, runs), "someone's": TrackedRuns(url, runs)})
        [place] = places(store)  # of a tracker that is not known nothing is said
        assert not place.link
        assert place.how.isprintable()
    write_tracked(
        store,
        {
            "wandb": TrackedRuns('https://a/?a=1&b="><script>alert(1)</script>', runs),
            "mlflow": TrackedRuns("javascript:alert(1)", runs),
            "tensorboard": TrackedRuns("<b>`", runs),
        },
    )
    page = page_text(load(store.root), ())
    assert 'href="https://a/?a=1&amp;b=&#34;&gt;&lt;script&gt;' in page
    assert "<script>alert" not in page
    for url in ("javascript:alert(1)", "<b>`"):
        assert f"Runs in {'mlflow' if 'alert' in url else 'tensorboard'}: {HOSTILE[url]}" in page


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"wandb": 3}', '{"wandb": {}}', '{"wandb": {"url": "", "runs": []}}', "[" * 10**5]
)
def test_a_file_of_another_form_is_no_file(store, text):
    store.table_file(FILE).write_text(text)
    assert read_tracked(store) == {}
