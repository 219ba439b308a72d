"""The commands as a user meets them."""

import csv
import json
import shutil
import subprocess
import sys
from typing import get_type_hints

import numpy as np
import pytest

from qtablate.cli import audit
from qtablate.cli import console as consoles
from qtablate.cli import main as cli
from qtablate.config import SweepConfig, fields
from qtablate.data.export import write_mp4
from qtablate.train.accumulate import AccumulationRules


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
    "unknown mixing": (["--mixing", "both"], "--mixing: unknown value 'both'; known: mixed, random, interleaved"),
    "unknown hold": (
        ["--batch-size-is", "steps"],
        "--batch-size-is: expected one of micro-batch or effective-batch, got steps",
    ),
    "batch not divisible": (
        ["--batch-size-is", "effective-batch", "--accum", "3"],
        "--batch-size 8 is not a multiple of --accum 3",
    ),
    "budget below a window": (["--samples", "8", "--accum", "4"], "--samples 8 is less than one window"),
    "micro-batch without both media": (["--batch-size", "2"], "--mixing mixed puts every medium into each micro-batch"),
    "rate of zero": (["--lr", "0"], "--lr: expected a positive number, got 0"),
    "rate not a number": (["--lr", "nan"], "--lr: expected a positive number, got nan"),
    "negative clipping": (["--max-grad-norm", "-1"], "--max-grad-norm: expected a positive number, got -1"),
    "out under a file": (["--out", "/dev/null/x"], "no folder can be made there"),
    "no model": (["--model", "nowhere"], "'nowhere' is not a model directory"),
    "unknown benchmark": (
        ["--bench", "mmbench:x"],
        "unknown benchmark 'mmbench:x'; expected world, world:LEVEL, mvbench:DIR or custom:FILE.py",
    ),
    "unknown level": (["--bench", "world:odd"], "unknown level 'odd' of the world; known: easy, normal, hard"),
    "no benchmark folder": (["--bench", "mvbench:nowhere"], "nowhere is not a folder in MVBench's format"),
    "items seed without items": (
        ["--items-seed", "1", "--bench", "mvbench:x"],
        "--items-seed selects which --items-per-task of a folder are drawn",
    ),
    "items seed of the world": (
        ["--items-seed", "1", "--items-per-task", "2"],
        "it needs --items-per-task and --bench mvbench:DIR",
    ),
    "no training file": (["--train", "nothing.json"], "--train: no file nothing.json"),
    "ranks without samples": (
        [
            "--batch-size",
            "16",
            "--accum",
            "1,4",
            "--batch-size-is",
            "effective-batch",
            "--image-ratio",
            "0",
            "--processes-per-cell",
            "5",
        ],
        "--processes-per-cell 5 share every micro-batch, and --batch-size 16 / --accum 4 = 4 samples are too few for them: "
        "raise --batch-size or use --processes-per-cell 4 or fewer",
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


NUMBERS = {
    "sweep": {
        "--lr": "a positive number",
        "--max-grad-norm": "a positive number",
        "--warmup-ratio": "a number from 0 to 1",
        "--image-ratio": "a number from 0 to 1",
        "--min-lr-ratio": "a number from 0 to 1",
        "--weight-decay": "a finite number of 0 or more",
        "--adam-beta1": "a number from 0 to below 1",
        "--max-invalid": "a number from 0 to 1",
        "--checkpoint-minutes": "a finite number of 0 or more",
        "--cell-timeout": "a finite number of 0.01 or more",
        "--seed-sd": "a finite number of 0 or more",
        "--margin": "a positive number",
        "--gpus-per-cell": "a finite number of 0 or more",
    },
    "audit": {"--max-grad-norm": "a positive number", "--image-ratio": "a number from 0 to 1"},
    "report": {"--margin": "a finite number of 0 or more"},
    "check results": {"--min-accuracy": "a number from 0 to 1", "--max-drop": "a finite number of 0 or more"},
    "cache": {"--limit": "a finite number of 0 or more"},
    "convert a.pth --llm b --out c": {"--lora-alpha": "a positive number"},
    "assemble --vision a --llm b --out c": {"--lr": "a positive number"},
}


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "much"])
@pytest.mark.parametrize(("command", "option"), [(one, option) for one, options in NUMBERS.items() for option in options])
def test_every_fraction_is_finite_and_within_its_bounds(command, option, value, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *command.split(), option, value)
    assert (code, out, err) == (2, "", f"error: {option}: expected {NUMBERS[command][option]}, got {value}\n")


def test_every_fraction_of_every_command_is_among_these():
    """A new float option needs the same check: Typer's own bounds let NaN through in some versions."""
    found = {
        (name, "--" + parameter.replace("_", "-"))
        for _, name, command, _ in cli.COMMANDS
        for parameter, kind in get_type_hints(command).items()
        if kind in (float, float | None)
    }
    kinds = {section: info.annotation for section, info in SweepConfig.model_fields.items()}
    for (section, name), option in fields().items():
        if kinds[section].model_fields[name].annotation in (float, float | None):
            found |= {("sweep", option.flag)} | ({("audit", option.flag)} if name in audit.SETTINGS else set())
    assert found == {(name.split()[0], option) for name, options in NUMBERS.items() for option in options}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sweep", "--out", ""], "--out: "),
        (["sweep", "--out="], "--out: "),
        (["sweep", "--out", " "], "--out: "),
        (["sweep", "--model", ""], "--model: "),
        (["sweep", "--bench", ""], "--bench: "),
        (["sweep", "--train", ""], "--train: "),
        (["sweep", "--media-root", ""], "--media-root: "),
        (["audit", "--csv", ""], "--csv: "),
        (["convert", "", "--llm", "a", "--out", "b"], ""),
        (["report", ""], ""),
        (["bench", "export", ""], ""),
    ],
)
def test_an_empty_value_is_never_the_current_folder(words, named, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err == f"error: {named}expected a value, got an empty one; give it, or leave it out\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "--nosuch"], "No such option: --nosuch"),
        (["nosuch"], "No such command 'nosuch'"),
        (["sweep", "--jobs", "0"], "--jobs: "),
        (["sweep", "--lr"], "Option '--lr' requires an argument"),
        (["report", "a", "b", "c"], "expected one or two results folders, and sections (conditions, contrasts, "),
        (["report", "taks"], "no folder and no section 'taks'; did you mean tasks? Sections: conditions, contrasts, "),
        (["report", "--format", "word"], "--format: unknown value 'word'; known: table, markdown, csv, json, latex"),
        (["convert"], "Missing argument"),
    ],
)
def test_a_command_that_cannot_be_parsed_gets_an_error_in_the_same_form(words, message, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Error" not in err
    assert "Usage" not in err


def test_version_completion_and_help(monkeypatch, capsys):
    from importlib.metadata import version

    assert run(monkeypatch, capsys, "--version") == (0, f"qtablate {version('qtablate')}\n", "")
    code, out, err = run(monkeypatch, capsys, "--help")
    assert (code, err) == (0, "")
    assert "--install-completion" in out
    commands = out.partition("Commands:")[2]
    assert "sweep" in commands
    assert "..." not in commands  # no line is cut at 80 columns
    code, out, err = run(monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert "Commands:" in err
    monkeypatch.setattr(sys, "argv", ["qtablate"])
    monkeypatch.setenv("_QTABLATE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "qtablate sw")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.split() == ["sweep"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "QTABLATE_CLIP_SECONDS",
            "soon",
            "expected a number of seconds, more than 0, got 'soon'; correct it, or unset it (120)",
        ),
        ("QTABLATE_CLIP_SECONDS", "0", "expected a number of seconds, more than 0, got '0'"),
        ("QTABLATE_CACHE_GB", "much", "expected a number of GB, at least 0, got 'much'; correct it, or unset it (50)"),
        ("QTABLATE_CACHE_GB", "nan", "expected a number of GB, at least 0, got 'nan'"),
    ],
)
def test_a_value_of_the_environment_that_is_none_is_named(variable, value, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    code, out, err = run(monkeypatch, capsys, "sweep", "--samples", "64")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {variable}: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "--train", "x.json"], "--train: x.json is a folder"),
        (["data", "check", "x.json"], "x.json is a folder"),
        (["sweep", "--train", "x.yaml"], "--train: x.yaml is a folder"),
        (["sweep", "--train", "a.json,"], "--train: 'a.json,' has an empty name; expected world, a json file, or a comma list"),
        (["convert", "x.json", "--llm", "a", "--out", "b"], "x.json is a folder; expected one of VideoChat2's .pth files"),
        (["convert", "no.pth", "--llm", "a", "--out", "b"], "no.pth does not exist; expected one of VideoChat2's .pth files"),
    ],
)
def test_a_folder_or_nothing_where_a_file_should_be_is_called_so(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.json").mkdir()
    (tmp_path / "x.yaml").mkdir()
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert "Errno" not in err


def test_the_plan_of_a_dry_run_is_its_result_and_how_it_is_made_is_told_beside_it(monkeypatch, capsys, tmp_path):
    from qtablate.cell.jobs import Probed
    from qtablate.execute.events import Event, Progress
    from qtablate.sweep import estimate as estimates

    fails = False

    def probes(function, jobs, workers):
        for key, _ in jobs:
            yield Event(key, "started")
            yield Event(key, "progress", progress=Progress("probe", 1, 4))
            yield Event(key, "silent", text="nothing heard")
            yield Event(key, "failed", error="gone") if fails else Event(key, "done", result=Probed(0.1, 0.01, 300, 9, 9, 5))

    monkeypatch.setattr(estimates, "run_jobs", probes)
    monkeypatch.setattr(consoles, "STATUS_SECONDS", -1.0)
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    words = [
        "sweep",
        "--dry-run",
        "--samples",
        "64",
        "--items-per-task",
        "1",
        "--tokens",
        "0,4",
        "--accum",
        "1",
        "--seeds",
        "1",
    ]
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    assert out.startswith("Plan of ")
    assert "Frozen: " in out
    assert err.splitlines() == [
        "Timing a few micro-batches of 2 conditions, one at a time",
        "  tokens 0, accum 1: starting",
        "  tokens 0, accum 1: part 1/4, 0 s left",
        "tokens 0, accum 1: nothing heard",
        "  tokens 0, accum 1: part 1/4, 0 s left",
        "  tokens 4, accum 1: starting",
        "  tokens 4, accum 1: part 1/4, 0 s left",
        "tokens 4, accum 1: nothing heard",
        "  tokens 4, accum 1: part 1/4, 0 s left",
    ]
    fails = True
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 1  # no probe ran: nothing is known to work
    assert "The probe of tokens 4, accum 1 failed: gone. Its cells run all the same; if one fails, it fails alone." in out


def test_how_far_the_doctor_is_is_told_on_stderr(monkeypatch, capsys, tmp_path):
    folder = mvbench(tmp_path / "b")
    write_mp4(folder / "video" / "a.mp4", np.zeros((20, 16, 16, 3), np.uint8), scale=1, repeats=1, fps=10)
    monkeypatch.setattr(consoles, "STATUS_SECONDS", -1.0)
    code, out, err = run(monkeypatch, capsys, "bench", "check", str(folder))
    assert (code, err) == (0, "  decoding clip 0 of 1\n")
    assert "decoding" not in out


def test_ranks_want_a_gpu_each_where_there_are_any(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    code, _, err = run(monkeypatch, capsys, "sweep", "--processes-per-cell", "2")
    assert code == 2
    assert "--processes-per-cell 2 need a GPU each, and there are 1: use fewer" in err.replace("\n", " ")


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
            "'num_frames' should be of the type of 8, is '8'",
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


@pytest.mark.parametrize(
    "words",
    [
        ["--baseline", "tokens=0"],
        ["--cost-model", "13b"],
        ["--full"],
        ["--watch"],
        ["--no-figures"],
        ["--format", "json"],
        ["tokens"],
    ],
)
def test_what_two_folders_cannot_be_asked_is_refused(words, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "report", "a", "b", *words)
    assert (code, out) == (2, "")
    given = "a section" if words == ["tokens"] else " ".join(words) if words[0] == "--format" else words[0]
    assert err.startswith(f"error: {given} applies to one folder: leave it out with two folders")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "json", "--full"], "--full is for the terminal's tables: leave it out with --format json"),
        (["--format", "json", "--watch"], "--watch is for the terminal's tables"),
        (["--format", "latex", "--no-figures"], "--no-figures is for the terminal's tables"),
        (["tokens", "--full"], "--full shows all sections: leave it out, or the names of sections"),
    ],
)
def test_options_of_a_report_that_would_have_no_effect_are_refused(words, message, monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, "report", str(tmp_path), *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")


def test_report_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, "report")[0] == 2
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 2
    assert "holds no sweep.json" in err


def test_help_report_and_an_idle_sweep_never_import_torch():
    """`qtablate --help` and `report` must start at once: they may not pay for torch."""
    for module in (
        "qtablate.cli.main",
        "qtablate.report.build",
        "qtablate.sweep.run",
        "qtablate.config",
        "qtablate.data.mvbench",
        "qtablate.validate.check",
        "qtablate.audit.measure",
        "qtablate.audit.summary",
    ):
        code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, module
    code = "import sys, qtablate.cli.main; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_doctor_names_what_it_finds_and_writes_it(monkeypatch, capsys, tmp_path):
    folder = mvbench(tmp_path / "b", video="gone\x1b[2J.mp4")
    code, out, err = run(monkeypatch, capsys, "bench", "check", str(folder), "--csv", str(tmp_path / "f.csv"))
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
    write_mp4(folder / "video" / "a.mp4", np.zeros((20, 16, 16, 3), np.uint8), scale=1, repeats=1, fps=10)
    assert run(monkeypatch, capsys, "bench", "check", str(folder), "--headers-only")[0] == 0
    assert run(monkeypatch, capsys, "bench", "check", str(folder))[0] == 0
    file = tmp_path / "t.json"
    file.write_text(json.dumps([{"video": "a.mp4", "QA": [{"q": "", "a": "a disc"}]}]))
    words = ["data", "check", str(file), "--media-root", str(folder / "video"), "--headers-only"]
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 0
    assert "0 errors, 0 warnings, 1 note." in out
    code, out, _ = run(monkeypatch, capsys, *words, "--bench", str(folder))
    assert code == 1
    assert "training clip in benchmark" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "check", "nowhere"], "nowhere is not a folder in MVBench's format"),
        (["bench", "check", "b", "--csv", "b"], "--csv: b cannot be written"),
        (["bench", "check", "b", "--csv", "none/f.csv"], "--csv: none/f.csv cannot be written"),
        (["data", "check", "none.json"], "no file none.json"),
        (["data", "check", "b/json/t.json", "--media-root", "none"], "--media-root: no folder none"),
        (["data", "check", "b/json/t.json", "--bench", "none"], "none is not a folder in MVBench's format"),
        (["data", "check", "text.json"], "error: text.json is not JSON"),
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
    assert out.startswith("nano in fp32, 323,328 trained parameters (extra query tokens: made rows 0-31")
    assert "\nPassed: at accumulation 1 and 2 the gradient of a window is that of one batch of the same samples" in out
    assert "its gradient is the same" in out
    assert "train_runtime" not in out
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {row["accumulate_grad_batches"] for row in rows} == {"1", "2"}
    assert all(float(row["value"]) <= float(row["tolerance"]) for row in rows if row["tolerance"])


def test_audit_of_a_planted_fault_has_exit_code_1(monkeypatch, capsys):
    from qtablate.audit import gradients

    right = gradients.accumulate
    planted = AccumulationRules(loss_norm="micro_mean")
    monkeypatch.setattr(
        gradients, "accumulate", lambda window, loss, some, rules, **named: right(window, loss, some, planted, **named)
    )
    code, out, err = run(monkeypatch, capsys, "audit", "--accum", "2", "--samples", "16", "--tokens", "0")
    assert (code, err) == (1, "")
    assert "\nFailed: at accumulation 2 the window differs from one batch by 0." in out
    assert "extra difference" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "peft"], "--against: unknown value 'peft'; known: trainer"),
        (["--precision", "fp8"], "--precision: expected one of fp32, bf16 or fp16, got fp8"),
        (["--batch-size", "4"], "use micro-batches of 8 or more, --image-ratio 0, or --mixing random"),
        (["--samples", "8"], "--samples 8 is less than one window of --batch-size 8 x --accum 2"),
        (["--tokens", "99999"], "which leaves no room for 512 tokens of text"),
        (["--lora", "4", "--train-lm"], "--lora trains an adapter beside the frozen language model"),
        (["--max-grad-norm", "0"], "--max-grad-norm: expected a positive number, got 0"),
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
