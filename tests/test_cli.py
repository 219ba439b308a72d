"""The commands as a user meets them."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from qtablate import cli
from qtablate.bench.export import write_mp4
from qtablate.train.accumulate import Rules


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["qtablate", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def mvbench(folder, **changes):
    (folder / "json").mkdir(parents=True)
    (folder / "video").mkdir()
    entry = {"video": "a.mp4", "question": "?", "candidates": ["x", "y"], "answer": "x"} | changes
    (folder / "json" / "t.json").write_text(json.dumps([entry]))
    return folder


BAD = {
    "duplicate level": (["--tokens", "0,32,32"], "--tokens: 32 is given twice"),
    "negative": (["--tokens", "-1"], "--tokens: -1 is too small; the least is 0"),
    "seed too large": (["--seeds", "4294967296"], "--seeds: 4294967296 is too large; the most is 4294967295"),
    "not a number": (["--accum", "two"], "--accum: 'two' is not a whole number"),
    "zero accumulation": (["--accum", "0"], "--accum: 0 is too small; the least is 1"),
    "unknown mixing": (["--mixing", "both"], "--mixing: unknown value 'both'; known: multi, single"),
    "unknown hold": (["--hold", "steps"], "--hold: unknown value 'steps'; known: micro-batch, effective-batch"),
    "batch not divisible": (["--hold", "effective-batch", "--accum", "3"], "--batch-size 8 is not a multiple of --accum 3"),
    "budget below a window": (["--samples", "8", "--accum", "4"], "--samples 8 is less than one window"),
    "micro-batch without both media": (["--batch-size", "2"], "--mixing multi wants every medium in each micro-batch"),
    "rate of zero": (["--lr", "0"], "--lr: 0 is no positive number"),
    "rate not a number": (["--lr", "nan"], "--lr: nan is no positive number"),
    "negative clipping": (["--max-grad-norm", "-1"], "--max-grad-norm: -1 is no positive number"),
    "out under a file": (["--out", "/dev/null/x"], "no folder can be made there"),
    "no model": (["--model", "nowhere"], "'nowhere' is not a model directory"),
    "unknown benchmark": (
        ["--bench", "mmbench:x"],
        "unknown benchmark 'mmbench:x'; expected world, world:LEVEL, mvbench:DIR or custom:FILE.py",
    ),
    "unknown level": (["--bench", "world:odd"], "unknown level 'odd' of the world; known: easy, normal, hard"),
    "no benchmark folder": (["--bench", "mvbench:nowhere"], "nowhere is not a folder in MVBench's format"),
    "items seed without items": (["--items-seed", "1", "--bench", "mvbench:x"], "--items-seed says which --items of a folder"),
    "items seed of the world": (["--items-seed", "1", "--items", "2"], "it wants --items and --bench mvbench:DIR"),
    "no training file": (["--train", "nothing.json"], "--train: no file nothing.json"),
    "ranks without samples": (
        ["--batch-size", "16", "--accum", "1,4", "--hold", "effective-batch", "--image-share", "0", "--ranks", "5"],
        "--ranks 5 share every micro-batch, and --batch-size 16 / --accum 4 = 4 samples are too few for them: raise "
        "--batch-size or use --ranks 4 or fewer",
    ),
    "smoke with a grid": (["--smoke", "--tokens", "0,4"], "--smoke has a grid of its own: leave out --tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_get_one_message_and_exit_2(name, monkeypatch, capsys, tmp_path):
    words, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "sweep", *words)
    assert code == 2
    assert message in err.replace("\n", " ")
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_ranks_want_a_gpu_each_where_there_are_any(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    code, _, err = run(monkeypatch, capsys, "sweep", "--ranks", "2")
    assert code == 2
    assert "--ranks 2 want a GPU each, and there are 1: use fewer" in err.replace("\n", " ")


def test_a_benchmark_without_a_usable_item_is_refused_with_the_reason(monkeypatch, capsys, tmp_path):
    folder = mvbench(tmp_path / "b", answer="z")
    code, _, err = run(monkeypatch, capsys, "sweep", "--bench", f"mvbench:{folder}", "--out", str(tmp_path / "r"))
    assert code == 2
    assert "holds no usable question: missing video" in err or "gold not among candidates" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[]", "unknown model family 'None'"),
        ("config.json", "{", "is not JSON"),
        ("config.json", '{"model_type": "videochat2"}', "expected 'vision_config' with 'image_size'"),
        ("config.json", '{"model_type": "videochat2", "vision_config": {}}', "expected 'vision_config' with 'image_size'"),
        (
            "config.json",
            '{"model_type": "videochat2", "vision_config": {"image_size": 8}, "num_frames": "8"}',
            "'num_frames' should be of the kind of 8, is '8'",
        ),
        ("model.safetensors", None, "model.safetensors cannot be read"),
    ],
)
def test_a_broken_model_directory_gets_one_message(name, content, message, nano_directory, monkeypatch, capsys, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(nano_directory, model)
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[: len(whole) // 2] if content is None else content.encode())
    code, out, err = run(monkeypatch, capsys, "sweep", "--model", str(model), "--out", str(tmp_path / "r"))
    assert code == 2
    assert message in err.replace("\n", " ")
    assert "Traceback" not in out + err
    assert not (tmp_path / "r").exists()


def test_report_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, "report")[0] == 2
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 2
    assert "holds no sweep.json" in err


def test_help_report_and_an_idle_sweep_never_import_torch():
    """`qtablate --help` and `report` must start at once: they may not pay for torch."""
    for module in (
        "qtablate.cli",
        "qtablate.analyse.report",
        "qtablate.sweep",
        "qtablate.bench.mvbench",
        "qtablate.bench.doctor",
        "qtablate.audit",
        "qtablate.analyse.verdict",
    ):
        code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, module
    code = "import sys, qtablate.cli; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_doctor_names_what_it_finds_and_writes_it(monkeypatch, capsys, tmp_path):
    folder = mvbench(tmp_path / "b", video="gone\x1b[2J.mp4")
    code, out, err = run(monkeypatch, capsys, "bench", "doctor", str(folder), "--csv", str(tmp_path / "f.csv"))
    assert (code, err) == (1, "")
    assert "missing video" in out
    assert "1 error, 0 warnings, 0 notes. 0 of 1 entries are usable" in out
    assert "\x1b" not in out  # a name cannot clear the screen
    [head, row] = csv.reader((tmp_path / "f.csv").read_text().splitlines())
    assert head == ["kind", "severity", "subject", "detail"]
    assert row[:3] == ["missing video", "error", "t-0000"]
    assert "gone\\x1b[2J.mp4" in row[3]


def test_the_doctor_passes_what_is_healthy(monkeypatch, capsys, tmp_path):
    folder = mvbench(tmp_path / "b")
    write_mp4(folder / "video" / "a.mp4", np.zeros((20, 16, 16, 3), np.uint8), scale=1, hold=1, fps=10)
    assert run(monkeypatch, capsys, "bench", "doctor", str(folder), "--no-decode")[0] == 0
    assert run(monkeypatch, capsys, "bench", "doctor", str(folder))[0] == 0
    file = tmp_path / "t.json"
    file.write_text(json.dumps([{"video": "a.mp4", "QA": [{"q": "", "a": "a disc"}]}]))
    words = ["data", "doctor", str(file), "--media-root", str(folder / "video"), "--no-decode"]
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 0
    assert "0 errors, 0 warnings, 1 note." in out
    code, out, _ = run(monkeypatch, capsys, *words, "--bench", str(folder))
    assert code == 1
    assert "training clip in benchmark" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "doctor", "nowhere"], "nowhere is not a folder in MVBench's format"),
        (["bench", "doctor", "b", "--csv", "b"], "--csv: b cannot be written"),
        (["bench", "doctor", "b", "--csv", "none/f.csv"], "--csv: none/f.csv cannot be written"),
        (["data", "doctor", "none.json"], "no file none.json"),
        (["data", "doctor", "b/json/t.json", "--media-root", "none"], "--media-root: no folder none"),
        (["data", "doctor", "b/json/t.json", "--bench", "none"], "none is not a folder in MVBench's format"),
        (["data", "doctor", "text.json"], "error: text.json is not JSON"),
    ],
)
def test_mistakes_at_the_doctors_get_one_message_and_exit_2(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    mvbench(tmp_path / "b")
    (tmp_path / "text.json").write_text("no json")
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err


def test_audit_measures_nano_beside_trainer_and_writes_every_figure(monkeypatch, capsys, tmp_path):
    words = ["audit", "--accum", "1,2", "--samples", "16", "--against", "trainer", "--csv", str(tmp_path / "a.csv")]
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    assert out.startswith("nano in fp32, 237,216 trained parameters (extra query tokens: made rows 0-31")
    assert "\nGood: at accumulation 1 and 2 a window's gradient is that of one batch of the same samples" in out
    assert "its gradient is this one" in out
    assert "train_runtime" not in out
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {row["accumulate_grad_batches"] for row in rows} == {"1", "2"}
    assert all(float(row["value"]) <= float(row["allowed"]) for row in rows if row["allowed"])


def test_audit_of_a_planted_fault_has_exit_code_1(monkeypatch, capsys):
    from qtablate.train import audit as audits

    right = audits.accumulate
    planted = Rules(loss_norm="micro_mean")
    monkeypatch.setattr(
        audits, "accumulate", lambda window, loss, some, rules, **named: right(window, loss, some, planted, **named)
    )
    code, out, err = run(monkeypatch, capsys, "audit", "--accum", "2", "--samples", "16", "--tokens", "0")
    assert (code, err) == (1, "")
    assert "\nBad: at accumulation 2 the window differs from one batch by 0." in out
    assert "extra difference" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "peft"], "--against: unknown value 'peft'; known: trainer"),
        (["--precision", "fp8"], "--precision: unknown value 'fp8'; known: fp32, bf16"),
        (["--batch-size", "4"], "use micro-batches of 8 or more, --image-share 0, or --mixing single"),
        (["--samples", "8"], "--samples 8 is less than one window of --batch-size 8 x --accum 2"),
        (["--tokens", "99999"], "which leaves no room for 512 tokens of text"),
        (["--lora", "4", "--train-lm"], "--lora trains an adapter beside the frozen language model"),
        (["--max-grad-norm", "0"], "--max-grad-norm: 0 is no positive number"),
        (["--train", "none.json"], "--train: no file none.json"),
        (["--model", "nowhere"], "'nowhere' is not a model directory"),
        (["--csv", "none/a.csv"], "--csv: none/a.csv cannot be written"),
    ],
)
def test_mistakes_at_the_audit_get_one_message_and_exit_2(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "audit", *words)
    assert (code, out) == (2, "")
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
