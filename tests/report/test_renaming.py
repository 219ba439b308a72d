"""The script that renames what committed results call by an old name: names change, and no figure does."""

import csv
import importlib.util
import io
import re
from pathlib import Path

import pytest

from qtablate.grid import RECORD_SCHEMA, conditions
from qtablate.store import Store

RESULTS = Path(__file__).parents[2] / "results"

CELLS = """key,status,mixing,clip_at,faulty,seed,samples_cut,accuracy,other_accuracy,train_seconds,error
a1,ok,multi,window,,1,0,0.5515,0.30125,64.77882608,
b2,ok,single,micro_batch,loss_norm=none; clip_at=micro_batch,2,3,-0.0,,6.404252718e-05,"no memory, ""none"" left"
c3,failed,aligned,window,,3,,,,,
"""
NEW_CELLS = """key,status,mixing,clip_per,incorrect,seed,truncated_samples,accuracy,mismatched_clip_accuracy,train_seconds,error
a1,ok,mixed,window,,1,0,0.5515,0.30125,64.77882608,
b2,ok,random,micro_batch,loss_norm=none; clip_per=micro_batch,2,3,-0.0,,6.404252718e-05,"no memory, ""none"" left"
c3,failed,interleaved,window,,3,,,,,
"""
CONTRASTS = """\
kind,axis,level,baseline,other_axis,other_level,other_baseline,at,low,high,freedom,p_equivalent,detectable,n_media
simple,mixing,single,multi,,,,micro_batch_size=8; loss_norm=none (faulty),-0.0118,0.0106,7.98,0.00326,0.0155,1176
main,clip_at,micro_batch,window,,,,mixing=multi+aligned; schedule_at=window,0,1,2.0,3,4,5
interaction,extra_init,none,multi,mixing,aligned,multi,,1,2,3,4,5,6
"""
NEW_CONTRASTS = """\
kind,axis,level,baseline,other_axis,other_level,other_baseline,fixed_levels,ci_low,ci_high,dof,p_tost,mde,n_clusters
simple,mixing,random,mixed,,,,micro_batch_size=8; loss_norm=none (incorrect),-0.0118,0.0106,7.98,0.00326,0.0155,1176
main,clip_per,micro_batch,window,,,,mixing=mixed+interleaved; lr_step_per=window,0,1,2.0,3,4,5
interaction,extra_init,none,multi,mixing,interleaved,mixed,,1,2,3,4,5,6
"""
ANSWERS = "control,item,media,correct,scores\nnone,none,other,1,-1.5;-2\nother,i,c,0,-1;-3\n"
NEW_ANSWERS = "control,item,cluster,correct,scores\nfull,none,other,1,-1.5;-2\nmismatched_clip,i,c,0,-1;-3\n"
REPORT = """\
## What the data support

| comparison | where | points | p | verdict | detectable | to decide |
| mixing single - multi |  | -0.1 | 1.000 | equivalent | 1.6 |  |
| loss norm none (faulty) - tokens | mean of mixing multi+aligned | +0.0 | 1.000 | worse | 1.6 |  |

In words: mixing single - multi: less, -0.1 points (-1.2 to +1.1).
See choices.csv, `--clip-at window --warm-up 0.5`.
"""
NEW_REPORT = """\
## Contrasts

| comparison | fixed levels | points | p | verdict | MDE | needed |
| mixing random - mixed |  | -0.1 | 1.000 | equivalent | 1.6 |  |
| loss norm none (incorrect) - tokens | mean of mixing mixed+interleaved | +0.0 | 1.000 | worse | 1.6 |  |

In words: mixing random - mixed: worse, -0.1 points (-1.2 to +1.1).
See scorer_agreement.csv, `--clip-per window --warmup-ratio 0.5`.
"""
STUDY = "what,at,low,value\nwindow,none,1,0.0\n"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("rename_columns", RESULTS / "rename_columns.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Results with old names, and a study's table whose columns are its own."""
    sweep = tmp_path / "sweep"
    (sweep / "cells" / "a1").mkdir(parents=True)
    (sweep / "cells.csv").write_text(CELLS)
    (sweep / "contrasts.csv").write_text(CONTRASTS)
    (sweep / "cells" / "a1" / "answers.csv").write_bytes(ANSWERS.replace("\n", "\r\n").encode())
    (sweep / "choices.csv").write_text("upstream,letters_said\n0.09710144928,A 19 B 81\n")
    (sweep / "study.csv").write_text(STUDY)
    (sweep / "report.md").write_text(REPORT)
    return tmp_path


def run(script, folder):
    for step in script.STEPS:
        step(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()}


def test_files_columns_and_levels_have_their_new_names(script, folder):
    assert run(script, folder) == {
        "sweep/cells.csv": NEW_CELLS,
        "sweep/contrasts.csv": NEW_CONTRASTS,
        "sweep/cells/a1/answers.csv": NEW_ANSWERS.replace("\n", "\r\n"),
        "sweep/scorer_agreement.csv": "official_check,predicted_letters\n0.09710144928,A 19 B 81\n",
        "sweep/study.csv": STUDY,
        "sweep/report.md": NEW_REPORT,
    }


def is_figure(text):
    try:
        float(text)
    except ValueError:
        return text == ""
    return True


@pytest.mark.parametrize("text", [CELLS, CONTRASTS, ANSWERS])
def test_no_figure_changes(script, text):
    before, after = (list(csv.reader(io.StringIO(each))) for each in (text, script.renamed_table(text, script.COLUMNS)))
    assert len(before) == len(after)
    for old, new in zip(before[1:], after[1:], strict=True):
        assert [value if is_figure(value) else None for value in old] == [value if is_figure(value) else None for value in new]


def test_no_number_of_a_report_changes(script):
    before, after = (re.findall(r"\d[\d.]*", text) for text in (REPORT, script.renamed_words(REPORT)))
    assert before == after


def test_a_second_run_changes_nothing(script, folder):
    assert run(script, folder) == run(script, folder)


def test_the_committed_results_have_only_new_names(script):
    for path in RESULTS.rglob("*.csv"):
        assert path.name not in script.FILES
        text, columns = path.read_bytes().decode(), script.columns_of(path.relative_to(RESULTS))
        assert not columns or script.renamed_table(text, columns) == text, path
    for path in RESULTS.rglob("*.md"):
        text = path.read_bytes().decode()
        assert script.renamed_words(text) == text, path


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("sweep.json")), ids=lambda path: path.parent.name)
def test_committed_sweep_files_are_read_typed_and_name_the_cells_of_their_grid(path):
    sweep = Store(path.parent).read_sweep()
    assert len(sweep.cells) == len(conditions(sweep.config.grid, 8)) * len(sweep.config.grid.seeds)
    expected = {(condition.extra_num_query_tokens, condition.mixing) for condition, _ in conditions(sweep.config.grid, 8)}
    assert {(cell.condition["extra_num_query_tokens"], cell.condition["mixing"]) for cell in sweep.cells} == expected
    assert sweep.schema_version == RECORD_SCHEMA
    for name in ("samples", "learning_rate"):
        assert getattr(sweep.config.train, name) in (None, getattr(sweep.settings, name))
