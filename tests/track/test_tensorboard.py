"""Event files, read with TensorBoard's own reader: losses by step and by samples, figures, the table of conditions."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tracked_sweep import GRID, finish_with_steps, planned, sweep

pytest.importorskip("tensorboard", reason="the package tensorboard is not installed (pip install 'qtablate[tensorboard]')")


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def files(root):
    return sorted(str(path.relative_to(root / "tensorboard").parent) for path in root.glob("tensorboard/**/*tfevents*"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two conditions, of which one fails; the first cell of the other has five steps."""
    root = tmp_path_factory.mktemp("tensorboard") / "r"
    finish_with_steps(planned(root, (), seeds=(1, 2)).cells[1], root)
    sweep(root, "tensorboard", accuracies={0: None, 4: 0.7}, seeds=(1, 2))
    return root


def test_a_run_per_cell_by_condition_and_seed(swept):
    assert files(swept) == [".", *[f"tokens-{n}-accum-1/seed-{seed}" for n in (0, 4) for seed in (1, 2)]]


def test_losses_stand_at_steps_and_at_samples_and_figures_at_the_last_step(swept):
    found = read(swept / "tensorboard/tokens-4-accum-1/seed-1")
    losses = found.Scalars("train/loss")
    assert [(one.step, round(one.value, 6)) for one in losses] == [(n, round(1 / n, 6)) for n in range(1, 6)]
    assert losses[-1].wall_time - losses[0].wall_time == pytest.approx(8.0)
    assert [one.step for one in found.Scalars("train_by_samples/loss")] == [8, 16, 24, 32, 40]
    assert [one.value for one in found.Scalars("train/lr")] == pytest.approx([1e-3] * 5)
    assert "train/grad_norm" not in found.Tags()["scalars"]  # it was not measured
    [accuracy] = found.Scalars("figures/accuracy")
    plan = planned(swept, (), seeds=(1, 2))
    scored = plan.store.read_record(plan.cells[1].key).figures["accuracy"]["value"]
    assert accuracy.value == pytest.approx(scored)
    assert accuracy.step == 5
    assert found.Scalars("task/a")[0].value == pytest.approx(scored)
    assert found.Scalars("figures/blind_accuracy")[0].value == 0.25
    assert found.Scalars("figures/peak_memory_mb")[0].value == 500


def test_the_table_of_conditions_has_a_row_each_with_the_mean_over_seeds(swept):
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    runs = EventMultiplexer().AddRunsFromDirectory(str(swept / "tensorboard")).Reload()
    provider = MultiplexerDataProvider(runs, str(swept))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    experiment = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    assert {one.name for one in experiment.hparam_infos} == {"extra_num_query_tokens", "accumulate_grad_batches"}
    assert "accuracy" in [one.display_name for one in experiment.metric_infos]
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        aggregation_type=api_pb2.AGGREGATION_AVG,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE],
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", wanted).run().session_groups
    rows = {group.hparams["extra_num_query_tokens"].number_value: group for group in groups}
    assert sorted(rows) == [0, 4]
    assert {session.status for session in rows[0].sessions} == {api_pb2.STATUS_FAILURE}
    assert {session.status for session in rows[4].sessions} == {api_pb2.STATUS_SUCCESS}
    seeds = [read(swept / f"tensorboard/tokens-4-accum-1/seed-{n}").Scalars("figures/accuracy")[0].value for n in (1, 2)]
    [mean] = [one.value for one in rows[4].metric_values if one.name.tag == "figures/accuracy"]
    assert mean == pytest.approx(sum(seeds) / 2)


def test_a_failed_cell_says_why_and_is_replaced_when_it_has_finished(swept):
    failed = read(swept / "tensorboard/tokens-0-accum-1/seed-1")
    assert b"out of memory" in failed.Tensors("error")[0].tensor_proto.string_val[0]
    assert not failed.Tags()["scalars"]
    sweep(swept, "tensorboard", seeds=(1, 2))
    assert read(swept / "tensorboard/tokens-0-accum-1/seed-1").Scalars("figures/accuracy")
    assert len(files(swept)) == 5
    path = next((swept / "tensorboard/tokens-0-accum-1/seed-1").iterdir())
    before = path.stat().st_mtime_ns
    sweep(swept, "tensorboard", seeds=(1, 2))
    assert path.stat().st_mtime_ns == before  # nothing is written twice


def test_a_condition_of_another_name_moves(swept):
    sweep(swept, "tensorboard", conditions=[*GRID, replace(GRID[0], loss_norm="micro_mean")], seeds=(1, 2))
    folders = [name for name in files(swept) if name != "."]
    assert len(folders) == 6
    assert "tokens-0-accum-1-loss-norm-micro_mean-incorrect/seed-2" in folders
    assert all("loss-norm" in name for name in folders)
    assert not (swept / "tensorboard/tokens-4-accum-1").exists()


def test_it_imports_neither_torch_nor_tensorflow(tmp_path):
    code = (
        "import sys, qtablate.sweep.run\n"
        "assert 'tensorboard' not in sys.modules\n"
        "from qtablate.track import tensorboard as one\n"
        "run = one.CellRun('i', 'k', 'n', 'g', 's', 1, {}, {}, {'a': 1.0}, {}, ({'step': 1.0},), 0.0, 'd')\n"
        "one._file(one._events(run)), one._file(one._experiment(run))\n"
        "print(sorted({'torch', 'tensorflow'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
