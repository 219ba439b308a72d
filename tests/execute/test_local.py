"""The local executor: a process a job; one that dies takes nothing else down."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtablate.execute.events import Progress
from qtablate.execute.local import at_once, cores, gpus, run_jobs

MODULE = """
import os, signal, time
from qtablate.execute.events import Progress

def work(job, report):
    if job == "raise":
        raise ValueError("no such thing")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leave":
        os._exit(3)
    if job == "wait":
        while True:
            time.sleep(0.05)
            report(Progress("train", 1, 1))
    report(Progress("train", 1, 2, 0.5))
    return (job, os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


@pytest.fixture
def work(tmp_path, monkeypatch) -> str:
    (tmp_path / "jobs_of_test_local.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "jobs_of_test_local:work"


def test_results_come_from_processes_of_their_own(work):
    events = list(run_jobs(work, [("a", "a"), ("b", "b"), ("c", "c")], workers=2))
    done = {event.key: event.result for event in events if event.kind == "done"}
    assert {key: result[0] for key, result in done.items()} == {"a": "a", "b": "b", "c": "c"}
    pids = {result[1] for result in done.values()}
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert {result[2] for result in done.values()} == {"1"}
    assert Progress("train", 1, 2, 0.5) in [event.progress for event in events]


def test_failures_are_told_and_the_others_go_on(work):
    jobs = [(name, name) for name in ("raise", "die", "leave", "fine")]
    events = {event.key: event for event in run_jobs(work, jobs, workers=1) if event.kind in ("done", "failed")}
    assert events["fine"].kind == "done"
    assert events["raise"].error == "ValueError: no such thing"
    assert 'raise ValueError("no such thing")' in events["raise"].traceback
    assert events["die"].error == "the process was killed by SIGKILL (out of memory?)"
    assert events["leave"].error == "the process ended with exit code 3"


def test_at_most_so_many_workers_at_once(work):
    running = most = 0
    for event in run_jobs(work, [(str(n), str(n)) for n in range(5)], workers=2):
        running += {"started": 1, "done": -1}.get(event.kind, 0)
        most = max(most, running)
    assert most == 2


def test_closing_ends_the_running_jobs(work):
    events = run_jobs(work, [("wait", "wait")], workers=1)
    assert next(events).kind == "started"
    assert next(events).kind == "progress"
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 4


def test_jobs_end_when_their_parent_is_killed(work, tmp_path):
    """A killed sweep leaves no orphans: the job's next report finds nobody."""
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from qtablate.execute.local import at_once, cores, gpus, run_jobs\nimport multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    for event in run_jobs('jobs_of_test_local:work', [('wait', 'wait')], 1):\n"
        "        if event.kind == 'progress':\n"
        "            print(multiprocessing.active_children()[0].pid, flush=True)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    state = Path(f"/proc/{child}/status")
    for _ in range(100):
        if not state.exists() or "zombie" in state.read_text():
            return
        time.sleep(0.1)
    pytest.fail("the job outlived its parent by ten seconds")


def test_each_job_has_a_gpu_of_its_own_where_there_are_any(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert (gpus(), at_once()) == (["4", "7"], 2)
    events = list(run_jobs(work, [(name, name) for name in "abcd"], workers=2))
    given = [event.result[3] for event in events if event.kind == "done"]
    assert set(given) == {"4", "7"}  # the slot that is free first takes the next job
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (gpus(), at_once()) == ([], cores())


def test_gpus_are_counted_by_their_driver(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("qtablate.execute.local._DRIVER", str(tmp_path))
    assert gpus() == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert gpus() == ["0", "1"]
