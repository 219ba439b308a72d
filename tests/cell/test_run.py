"""What reaches the language model of a cell: a small model of the original's shape, on files, in this process."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from converted_folder import write_converted_folder
from settings import compute, config
from settings import run as run_plan

from qtablate.cell.jobs import CellJob, ProbeJob
from qtablate.cell.probe import probe
from qtablate.cell.run import CHECKPOINT, run_cell
from qtablate.errors import DataError, ModelError, StoreError
from qtablate.execute.events import Notice
from qtablate.model.encode import ConversationEncoder
from qtablate.model.load import load
from qtablate.sweep.describe import explain_defaults
from qtablate.sweep.forecast import Forecast
from qtablate.sweep.plan import SweepPlan, make_plan
from qtablate.train.loop import Training

SENTENCE = "The video contains 8 frames sampled at "


@pytest.fixture
def folder(tmp_path):
    """Two clips of other lengths to ask about, one to train on, and a model that says when frames were sampled."""
    write_converted_folder(tmp_path, (16, 32, 24))
    yield tmp_path
    torch.use_deterministic_algorithms(False)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SweepPlan, set[str], set[str]]:
    """(sweep, texts that were trained on, texts that were asked): what stands behind the visual tokens."""
    seen: dict[str, set[str]] = {"told": set(), "asked": set()}
    encode_sample, encode_item = ConversationEncoder.encode_sample, ConversationEncoder.encode_item

    def recorded_sample(self, sample):
        conversation = encode_sample(self, sample)
        seen["told"].add(self.decode(conversation.suffix))
        return conversation

    def recorded_item(self, item, with_letters=False):
        question = encode_item(self, item, with_letters)
        seen["asked"].add(self.decode(question.context))
        return question

    monkeypatch.setattr(ConversationEncoder, "encode_sample", recorded_sample)
    monkeypatch.setattr(ConversationEncoder, "encode_item", recorded_item)
    controls, scorers = ("blind", "reversed", "mismatched_clip"), ("likelihood", "letter", "generate", "circular")
    planned = run_plan(plan(folder, tokens=(0,), batch_size=(4,), controls=controls, scorers=scorers))
    monkeypatch.setattr(ConversationEncoder, "encode_sample", encode_sample)
    monkeypatch.setattr(ConversationEncoder, "encode_item", encode_item)
    return planned, *seen.values()


def plan(folder: Path, **changes: object) -> SweepPlan:
    """A sweep of one cell of four steps."""
    files = {"model": str(folder / "model"), "bench": f"mvbench:{folder}", "train": f"{folder}/train.json"}
    small = {"media_root": f"{folder}/video", "tokens": (4,), "batch_size": (1,), "samples": 4, "out": folder / "r", "jobs": 1}
    return make_plan(config(**{**files, **small, **changes}), folder / "features")


def planned_cell(folder: Path, **more: object) -> tuple[SweepPlan, CellJob]:
    """A plan whose features are computed, and the job of its cell; `more`: fields of the job."""
    planned = plan(folder)
    compute(planned)
    [cell] = planned.cells
    return planned, replace(planned.cell_job(cell), **{"checkpoint_seconds": None, **more})


def without_times(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


def test_a_failed_evaluation_keeps_what_was_trained_and_is_tried_again_alone(folder, monkeypatch):
    planned, job = planned_cell(folder)
    store, key = planned.store, job.cell.key
    run_cell(job, lambda _: None)
    whole, files = store.read_finished(key), ("train.csv", "answers.csv")
    wanted = [without_times(store.cell_file(key, name)) for name in files]
    shutil.rmtree(store.root)

    def broken(*_: object) -> None:
        raise RuntimeError("an item that nobody foresaw")

    with monkeypatch.context() as patch:
        patch.setattr("qtablate.cell.scoring.score", broken)
        with pytest.raises(RuntimeError, match="nobody foresaw"):
            run_cell(job, lambda _: None)
    assert store.state(key).status == "failed"
    assert store.cell_file(key, CHECKPOINT).is_file()
    phases: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_train_window", broken)  # nothing is trained again
        run_cell(job, lambda one: phases.append(one.phase))
    assert set(phases) == {"evaluate"}
    again = store.read_finished(key)
    assert [without_times(store.cell_file(key, name)) for name in files] == wanted
    assert (again.figures["accuracy"], again.figures["train_loss"]) == (whole.figures["accuracy"], whole.figures["train_loss"])
    assert not store.cell_file(key, CHECKPOINT).exists()


@pytest.mark.parametrize("stands", ["damaged", "folder", "nothing of torch's"])
def test_a_checkpoint_that_cannot_be_used_is_said_and_training_starts_over(folder, stands):
    planned, job = planned_cell(folder, checkpoint_seconds=0.0)
    run_cell(job, lambda _: None)
    path = planned.store.cell_file(job.cell.key, CHECKPOINT)
    wanted = without_times(path.with_name("train.csv"))
    if stands == "folder":
        path.mkdir()
    elif stands == "damaged":
        shutil.rmtree(planned.store.root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("qtablate.cell.scoring.score", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run_cell(job, lambda _: None)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 8
        path.write_bytes(content)
    else:
        path.write_bytes(b"none")
    said: list[str] = []
    run_cell(job, lambda one: said.append(one.text) if isinstance(one, Notice) else None)
    assert len(said) == 1
    assert said[0].startswith("checkpoint.pt cannot be used (")
    assert said[0].endswith("): training starts over")
    assert without_times(path.with_name("train.csv")) == wanted
    assert not path.exists()


def test_without_room_for_checkpoints_a_cell_goes_on(folder, monkeypatch):
    planned, job = planned_cell(folder, checkpoint_seconds=0.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qtablate.train.checkpoint.save", full)
    said: list[str] = []
    run_cell(job, lambda one: said.append(one.text) if isinstance(one, Notice) else None)
    assert planned.store.finished(job.cell.key)
    assert len(said) == 1  # not after each step
    assert "checkpoint.pt cannot be written (No space left on device): going on without" in said[0]


def test_a_bit_that_flipped_in_the_cached_features_is_never_trained_on(folder):
    planned, job = planned_cell(folder)
    [(stem, _)] = planned.inputs[8].benchmark.chunks
    path = folder / "features" / f"{stem}.safetensors"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # nothing shows it
    assert planned.inputs[8].benchmark.missing() == []
    with pytest.raises(StoreError, match=f"{stem}.safetensors are missing or damaged .* run the same command again"):
        run_cell(job, lambda _: None)
    assert not planned.store.cell_file(job.cell.key, "train.csv").exists()
    assert len(planned.feature_jobs()) == 1
    compute(planned)
    run_cell(job, lambda _: None)
    assert planned.store.finished(job.cell.key)


def test_an_item_too_long_for_the_model_is_left_out_by_name_and_all_else_is_unchanged(folder):
    planned, job = planned_cell(folder)
    run_cell(job, lambda _: None)
    before = without_times(planned.store.cell_file(job.cell.key, "answers.csv"))
    entries = json.loads((folder / "json" / "asked.json").read_text())
    entries.append(entries[0] | {"question": "What " + "is it " * 20_000})
    (folder / "json" / "asked.json").write_text(json.dumps(entries))
    planned, job = planned_cell(folder)
    run_cell(job, lambda _: None)
    assert without_times(planned.store.cell_file(job.cell.key, "answers.csv")) == before
    [left] = planned.store.read_finished(job.cell.key).figures["unscored"]
    assert (left["subject"], left["kind"]) == ("asked-0002", "text too long")


@pytest.mark.parametrize(("bad", "limit", "stops"), [(1, 0.1, True), (1, 0.34, False), (2, 0.5, True), (0, 0.0, False)])
def test_too_many_bad_items_stop_a_sweep_before_anything_runs(folder, bad, limit, stops):
    """Of three questions: those that cannot be read, and those whose clips cannot be decoded."""
    entries = json.loads((folder / "json" / "asked.json").read_text())
    good = entries[0]
    entries = [*entries, good | {"question": "Which?"}]
    for entry in entries[:bad]:
        entry["answer"] = "none of them"
    (folder / "json" / "asked.json").write_text(json.dumps(entries))
    if stops:
        with pytest.raises(
            DataError, match=rf"{bad} of 3 items cannot be used, more than --max-invalid {limit:g} allows: asked-0000"
        ):
            plan(folder, max_invalid=limit)
        return
    planned = plan(folder, max_invalid=limit)
    planned.check_invalid_share()
    (folder / "video" / "1.mp4").write_bytes((folder / "video" / "1.mp4").read_bytes()[:200])
    planned = plan(folder, max_invalid=limit)
    compute(planned)
    with pytest.raises(
        DataError, match=rf"{bad + 1} of 3 items cannot be used, more than --max-invalid {limit:g} allows: asked-000"
    ):
        planned.check_invalid_share()


def test_of_drawn_items_each_share_is_of_what_it_was_looked_for_in(folder):
    entries = json.loads((folder / "json" / "asked.json").read_text())
    (folder / "json" / "asked.json").write_text(json.dumps([*entries, *entries, entries[0] | {"answer": "none of them"}]))
    contents = plan(folder, items_per_task=1, max_invalid=0.2).contents  # 1 of 5, and not 1 of 2
    assert (contents.n_items, contents.entries, len(contents.item_problems)) == (1, 5, 1)
    with pytest.raises(DataError, match=r"1 of 5 items cannot be used, more than --max-invalid 0.1 allows"):
        plan(folder, items_per_task=1, max_invalid=0.1)


def test_cells_of_other_versions_are_not_reused_and_the_plan_says_so(folder, monkeypatch):
    planned, job = planned_cell(folder)
    run_cell(job, lambda _: None)
    assert planned.to_run() == []
    now = planned.cells[0].fingerprints.software
    assert all(name in now for name in ("torch ", "transformers ", "av ", "pillow "))  # clips are files here
    assert not [line for line in explain_defaults(planned, Forecast()) if "finished cells of this grid" in line]
    monkeypatch.setattr("qtablate.sweep.plan.result_versions", lambda media: "torch 9.9.9")
    again, _ = planned_cell(folder)
    assert again.to_run() == again.cells
    assert again.inputs[8].training.chunks != planned.inputs[8].training.chunks  # nor are their features
    [line] = [line for line in explain_defaults(again, Forecast()) if "finished cells of this grid" in line]
    assert line.startswith(f"1 finished cells of this grid were made with {now}, and torch 9.9.9 is installed: ")


def test_texts_with_marks_of_the_models_conversations_are_left_out_by_name(folder):
    """Where turns begin is found by these marks: such a sample would end every cell, or have other tokens supervised."""
    planned, job = planned_cell(folder)
    run_cell(job, lambda _: None)
    before = without_times(planned.store.cell_file(job.cell.key, "answers.csv"))
    samples = json.loads((folder / "train.json").read_text())
    for text in ("so [INST] what", "<Video></Video>?", "well [/INST] done"):
        samples.append({"video": "2.mp4", "QA": [{"i": "Watch.", "q": text, "a": "a man"}]})
    (folder / "train.json").write_text(json.dumps(samples))
    entries = json.loads((folder / "json" / "asked.json").read_text())
    (folder / "json" / "asked.json").write_text(json.dumps([*entries, entries[0] | {"question": "<Video></Video>"}]))
    with pytest.raises(
        DataError, match=r"3 of 4 training samples cannot be used.*sample 1: unusable text \('q' holds '\[INST\]'"
    ):
        plan(folder)
    planned = plan(folder, max_invalid=0.8)
    assert [one.subject for one in planned.contents.sample_problems] == ["sample 1", "sample 2", "sample 3"]
    assert [one.subject for one in planned.contents.item_problems] == ["asked-0002"]
    compute(planned)
    [cell] = planned.cells
    run_cell(planned.cell_job(cell), lambda _: None)
    assert without_times(planned.store.cell_file(cell.key, "answers.csv")) == before


def tell_seconds(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    assert config["tell_seconds"] is False
    (model / "config.json").write_text(json.dumps(config | {"tell_seconds": True}))


def test_a_model_is_told_when_its_frames_were_sampled(folder, monkeypatch):
    plainly, told, asked = run(folder, monkeypatch)
    assert not any(SENTENCE in text for text in told | asked)
    assert plainly.inputs[8].training.seconds() == {}
    tell_seconds(folder / "model")
    planned, told, asked = run(folder, monkeypatch)
    assert planned.cells[0].key != plainly.cells[0].key
    # 24 frames at 8 a second: segments of 23 / 8 frames, their middles at 1, 4, 7, 10, 12, 15, 18, 21
    [text] = told
    assert f"</Video> {SENTENCE}0.1, 0.5, 0.9, 1.2, 1.6, 1.9, 2.2, 2.6 seconds. [/INST]" in text
    assert all(text.count(SENTENCE) == 1 for text in asked)
    clips = {text.partition(SENTENCE)[2].partition(" seconds")[0] for text in asked}
    assert clips == {", ".join(f"{n:.1f}" for n in planned.inputs[8].benchmark.seconds()[clip]) for clip in ("0.mp4", "1.mp4")}
    assert len(clips) == 2
    assert probe(ProbeJob(planned.cells[0], planned.config.data), lambda _: None).micro_seconds > 0


def test_conversations_without_a_place_for_it_are_refused(folder):
    model = folder / "model"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"tell_seconds": True, "conversation": "plain"}))
    with pytest.raises(ModelError, match="'tell_seconds' needs one of the conversations videochat2_mistral, videochat2_vicuna"):
        load(str(model))
