"""Offline runs of Weights & Biases: its own messages, from files whose frames are those of LevelDB's log."""

import json
import struct
import zlib

import pytest
from tracked_sweep import finish_with_steps, planned, sweep

wandb = pytest.importorskip("wandb", reason="the package wandb is not installed (pip install 'qtablate[wandb]')")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))


def messages(data):
    """The messages of a file: behind its first 7 bytes, in blocks of 32 KiB, each piece with checksum, length and type."""
    assert data[:4] == b":W&B"
    place, message = 7, b""
    while place < len(data):
        left = 2**15 - place % 2**15
        if left < 7:  # no room for a header: the block ends in zeros
            place += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        assert checksum == zlib.crc32(bytes([kind]) + piece)
        message += piece
        if kind in (1, 4):  # a whole message, or the last piece of one
            yield message
            message = b""
        place += 7 + length


def read(root):
    """By name: what the file of every offline run holds."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for path in sorted(root.glob("wandb/offline-run-*/*.wandb")):
        one = {"history": [], "summary": {}, "config": {}, "exit": None}
        for data in messages(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {name: getattr(record.run, name) for name in ("run_id", "display_name", "run_group", "project")}
                one["tags"] = list(record.run.tags)
                one["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                one["history"].append(
                    {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
                )
            elif kind == "summary":
                one["summary"] |= {
                    (item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.summary.update
                }
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        assert one["display_name"] not in found
        found[one["display_name"]] = one
    return found


def test_a_run_per_cell_offline_with_losses_figures_and_failures(tmp_path):
    root = tmp_path / "r"
    plan = planned(root, ())
    finish_with_steps(plan.cells[1], root)
    warnings = []
    sweep(root, "wandb", accuracies={0: None, 4: 0.7}, on_event=lambda event: warnings.append(event.text))
    assert not any(warnings)
    found = read(root)
    assert list(found) == ["tokens 4, accum 1, seed 1", "tokens 0, accum 1, seed 1"]
    good, failed = found.values()
    assert (good["run_group"], good["project"], good["tags"]) == ("tokens 4, accum 1", "qtablate", ["r"])
    assert good["run_id"] == f"r-{plan.cells[1].key}"
    assert good["config"]["extra_num_query_tokens"] == 4
    assert good["config"]["bench"] == "world"
    assert [row["train/loss"] for row in good["history"]] == pytest.approx([1 / n for n in range(1, 6)])
    assert [row["_step"] for row in good["history"]] == [1, 2, 3, 4, 5]
    assert [row["train/samples_seen"] for row in good["history"]] == [8, 16, 24, 32, 40]
    scored = plan.store.read_record(plan.cells[1].key).figures["accuracy"]["value"]
    assert good["summary"]["accuracy"] == good["summary"]["task/a"] == pytest.approx(scored)
    assert (good["summary"]["blind_accuracy"], good["summary"]["peak_memory_mb"]) == (0.25, 500)
    assert (good["exit"], failed["exit"]) == (0, 1)
    assert failed["summary"]["error"] == "out of memory"
    assert failed["tags"] == ["r", "failed"]

    sweep(root, "wandb")  # what failed is finished now, and its run replaced; nothing else is written
    again = read(root)
    assert len(again) == 2
    assert again["tokens 0, accum 1, seed 1"]["exit"] == 0
    assert len(list(root.glob("wandb/offline-run-*"))) == 2
    folders = sorted(root.glob("wandb/offline-run-*"))
    sweep(root, "wandb")
    assert sorted(root.glob("wandb/offline-run-*")) == folders


def test_online_without_a_key_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    events = []
    plan = sweep(tmp_path / "r", "wandb", on_event=events.append)
    assert not plan.to_run()
    [warning] = [event.text for event in events if event.kind == "notice"]
    assert warning.startswith("Warning: wandb gets no more runs of this sweep (")
