"""The local executor: a process a job; one that dies takes nothing else down."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtablate.execute.events import Progress
from qtablate.execute.local import at_once, cores, gpus, run_jobs
from qtablate.execute.team import Team

MODULE = """
import os, signal, time
from qtablate.execute.events import Progress

def work(job, report, member=None):
    job = job if member is None or member.rank == 1 else {"die": "wait", "raise": "wait"}.get(job, job)
    if job == "raise":
        raise ValueError("no such thing")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leave":
        os._exit(3)
    if job == "wait":
        while True:
            time.sleep(0.05)
            report(Progress(os.environ.get("LOCAL_RANK", "train"), 1, 1))
    report(Progress("train", 1, 2, member.rank if member else 0.5))
    device = os.environ.get("CUDA_VISIBLE_DEVICES")
    if member:
        own = member.meeting.with_name(str(member.rank))
        own.write_text(f"{os.getpid()} {device}")
        others = [own.with_name(str(rank)) for rank in range(member.world)]
        while not all(one.exists() and one.read_text() for one in others):
            time.sleep(0.01)
        return [one.read_text().split() for one in others], str(own.parent)
    return (job, os.getpid(), os.environ["OMP_NUM_THREADS"], device)
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


@pytest.mark.parametrize("ranks", [1, 2])
def test_closing_ends_the_running_jobs(work, ranks):
    events = run_jobs(work, [("wait", "wait")], workers=1, ranks=ranks)
    assert next(events).kind == "started"
    assert next(events).kind == "progress"
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 4
    assert multiprocessing.active_children() == []


def test_jobs_end_when_their_parent_is_killed(work, tmp_path):
    """A killed sweep leaves no orphans: the next report of each process finds nobody."""
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from qtablate.execute.local import at_once, cores, gpus, run_jobs\nimport multiprocessing, os\n"
        "if __name__ == '__main__':\n"
        "    os.environ['LOCAL_RANK'] = '3'\n"  # a launcher's: nothing to a job
        "    for event in run_jobs('jobs_of_test_local:work', [('wait', 'wait')], 1, 2):\n"
        "        if event.kind == 'progress':\n"
        "            print(event.progress.phase, *(one.pid for one in multiprocessing.active_children()), flush=True)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    (tmp_path / "aside").mkdir()
    env = os.environ | {"TMPDIR": str(tmp_path / "aside")}
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], env=env, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    phase, *children = parent.stdout.readline().split()
    assert (phase, len(children)) == ("train", 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not any(runs(child) for child in children):
            assert not list((tmp_path / "aside").glob("qtablate-*"))
            return
        time.sleep(0.1)
    pytest.fail("a process outlived its parent by ten seconds")


def runs(process: str) -> bool:
    state = Path(f"/proc/{process}/status")
    try:
        return "zombie" not in state.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_each_job_has_a_gpu_of_its_own_where_there_are_any(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert (gpus(), at_once()) == (["4", "7"], 2)
    events = list(run_jobs(work, [(name, name) for name in "abcd"], workers=2))
    given = [event.result[3] for event in events if event.kind == "done"]
    assert set(given) == {"4", "7"}  # the slot that is free first takes the next job
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (gpus(), at_once()) == ([], cores())


def test_a_job_of_several_processes_has_a_gpu_for_each_and_the_first_speaks(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,1")
    assert [at_once(ranks) for ranks in (1, 2, 3, 8)] == [3, 1, 1, 1]
    events = list(run_jobs(work, [(name, name) for name in "abc"], 2, 2))
    done = [event.result for event in events if event.kind == "done"]
    assert len(done) == 3
    given = {tuple(device for _, device in processes) for processes, _ in done}
    assert given == {("4", "7"), ("1", "4")}  # never one twice
    assert all(processes[0][0] != processes[1][0] for processes, _ in done)
    assert {event.progress.loss for event in events if event.kind == "progress"} == {0}
    assert [Path(folder).exists() for _, folder in done] == [False] * 3


def test_of_several_that_failed_the_first_is_blamed_and_before_it_one_that_died():
    team = Team("key", 0, [None, None, None])
    team._said = {0: ("failed", (3.0, "lost", "")), 1: ("failed", (2.0, "cause", "its trace")), 2: ("ended", None)}
    assert (team._failure().error, team._failure().traceback) == ("rank 1 of 3: cause", "its trace")
    team._said[2] = ("died", 3)
    assert team._failure().error == "rank 2 of 3: the process ended with exit code 3"


@pytest.mark.parametrize(
    ("job", "error"),
    [("die", "the process was killed by SIGKILL (out of memory?)"), ("raise", "ValueError: no such thing")],
)
def test_one_that_is_lost_ends_the_others_of_its_job_and_no_other_job(work, job, error):
    events = list(run_jobs(work, [(job, job), ("fine", "fine")], 2, 2))
    over = {event.key: event for event in events if event.kind in ("done", "failed")}
    assert over["fine"].kind == "done"
    assert over[job].error == f"rank 1 of 2: {error}"  # the other waits for ever
    assert ("no such thing" in over[job].traceback) == (job == "raise")
    assert multiprocessing.active_children() == []


def test_gpus_are_counted_by_their_driver(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("qtablate.execute.local._DRIVER", str(tmp_path))
    assert gpus() == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert gpus() == ["0", "1"]
