"""The local executor: a process a job; one that dies takes nothing else down."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path

import pytest
from launch import alive, running, wait_until

from qtablate.cli.progress import ProgressDisplay
from qtablate.execute import worker, worker_group
from qtablate.execute.events import Again, Event, Progress
from qtablate.execute.local import run_jobs, slot_devices
from qtablate.execute.remote import RemoteJob, run_remote
from qtablate.execute.worker import FinalStatus
from qtablate.execute.worker_group import WorkerGroup
from qtablate.interrupts import SIGNALS

MODULE = """
import os, signal, threading, time
from pathlib import Path
from qtablate.execute.events import Notice, Progress

class Wordless(Exception):
    def __init__(self):
        self.lock = threading.Lock()  # nor can it be pickled

    def __str__(self):
        raise ValueError("no words")

class Unreadable:
    def __reduce__(self):
        return int, ("no number",)

class Unpickled:
    def __reduce__(self):
        raise ValueError("not to be pickled")

def work(job, report, rank_info=None):
    job = job if rank_info is None or rank_info.rank == 1 else {"die": "wait", "raise": "wait"}.get(job, job)
    if job == "raise":
        raise ValueError("no such thing")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "memory":
        report(Progress("train", 3, 9))
        raise MemoryError("no room")
    if job == "leave":
        os._exit(3)
    if job == "sleep":
        report(Progress("train", 1, 1))
        time.sleep(600)
    if job == "exit":
        raise SystemExit(0)
    if job == "interrupt":
        raise KeyboardInterrupt
    if job == "wordless":
        raise Wordless
    if job == "surrogate":
        raise ValueError("\\ud800")
    if job == "unreadable":
        return Unreadable()
    if job == "unsendable":
        return threading.Lock()
    if job == "large":
        return bytes(20_000_000)
    if job == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
        return "done"
    if job == "dies while it sends":
        threading.Timer(0.2, os._exit, (4,)).start()
        while True:
            report(Notice("x" * 5_000_000))
    if job == "notice":
        for n in range(20):
            report(Progress("train", n, 100))
            report(Notice(f"line {n}"))
        return "done"
    if isinstance(job, Path):  # waits for a file, and says nothing
        report(Progress("train", 1, 1))
        while not job.exists():
            time.sleep(0.01)
        return "found"
    if job == "wait":
        while True:
            time.sleep(0.05)
            report(Progress(os.environ.get("LOCAL_RANK", "train"), 1, 1))
    report(Progress("train", 1, 2, rank_info.rank if rank_info else 0.5))
    device = os.environ.get("CUDA_VISIBLE_DEVICES")
    if rank_info:
        own = rank_info.rendezvous_file.with_name(str(rank_info.rank))
        own.write_text(f"{os.getpid()} {device}")
        others = [own.with_name(str(rank)) for rank in range(rank_info.world_size)]
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


def test_at_most_so_many_workers(work):
    running = most = 0
    for event in run_jobs(work, [(str(n), str(n)) for n in range(5)], workers=2):
        running += {"started": 1, "done": -1}.get(event.kind, 0)
        most = max(most, running)
    assert most == 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_closing_ends_the_running_jobs(work, ranks):
    events = run_jobs(work, [("wait", "wait")], workers=1, processes_per_job=ranks)
    assert next(events).kind == "started"
    assert next(events).kind == "progress"
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 4
    assert multiprocessing.active_children() == []


SCRIPT = """
import multiprocessing, sys
sys.path.insert(0, {folder!r})
from qtablate import interrupts
from qtablate.execute.local import run_jobs
if __name__ == "__main__":
    try:
        with interrupts.raised():
            for event in run_jobs("jobs_of_test_local:work", [("job", {job!r})], 1, {ranks}):
                if event.kind in {kinds!r}:
                    phase = [event.progress.phase] if event.progress else []
                    print(event.kind, *phase, *(one.pid for one in multiprocessing.active_children()), flush=True)
    except interrupts.Stopped as stop:
        sys.exit(stop.code)
"""


@pytest.mark.parametrize(("job", "ranks"), [("wait", 2), ("sleep", 2), ("sleep", 1)])
def test_jobs_end_when_their_parent_is_killed(work, tmp_path, job, ranks):
    """A killed sweep leaves no orphans, whether they have something to report or not."""
    (tmp_path / "parent.py").write_text(SCRIPT.format(folder=str(tmp_path), job=job, ranks=ranks, kinds=("progress",)))
    with tempfile.TemporaryDirectory() as aside:  # of a short name: the fork server's socket lies in it
        env = os.environ | {"TMPDIR": aside, "LOCAL_RANK": "3"}  # a launcher's: nothing to a job
        with running([sys.executable, str(tmp_path / "parent.py")], env) as parent:
            kind, phase, *children = parent.stdout.readline().split()
            assert (kind, phase, len(children)) == ("progress", "train", ranks)
            parent.kill()
            parent.wait()
            assert wait_until(lambda: not alive(parent.pid), 10), alive(parent.pid)
        assert not list(Path(aside).glob("qtablate-*"))


@pytest.mark.parametrize("signum", [SIGNALS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in SIGNALS[1:])])
def test_a_signal_to_the_whole_group_while_the_fork_server_imports_leaves_no_traceback(work, tmp_path, signum):
    """Ctrl-C, and a terminal that closes, reach everything that was started from it."""
    (tmp_path / "parent.py").write_text(SCRIPT.format(folder=str(tmp_path), job="sleep", ranks=1, kinds=("started",)))
    with running([sys.executable, str(tmp_path / "parent.py")]) as parent:
        assert parent.stdout.readline() == "started\n"
        assert wait_until(lambda: len(alive(parent.pid)) >= 3, 60, 0.001)  # with the resource tracker and the fork server
        time.sleep(0.3)  # it imports
        os.killpg(parent.pid, signum)
        assert (parent.wait(60), parent.stdout.read()) == (128 + signum, "")
        assert wait_until(lambda: not alive(parent.pid), 30), alive(parent.pid)  # once it has imported


def test_each_job_has_a_gpu_of_its_own_where_there_are_any(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    events = list(run_jobs(work, [(name, name) for name in "abcd"], workers=2))
    given = [event.result[3] for event in events if event.kind == "done"]
    assert set(given) == {"4", "7"}  # the slot that is free first takes the next job


@pytest.mark.parametrize(
    ("gpus", "slots", "processes", "jobs_on_each"),
    [(2, 2, 1, 1), (2, 4, 1, 2), (3, 9, 1, 3), (4, 2, 2, 1), (4, 4, 2, 2), (3, 3, 2, 2), (8, 8, 3, 3)],
)
def test_gpus_are_dealt_out_evenly_and_never_one_twice_to_a_job(gpus, slots, processes, jobs_on_each):
    given = [slot_devices(slot, processes, [str(gpu) for gpu in range(gpus)]) for slot in range(slots)]
    assert all(len(set(devices)) == processes for devices in given)
    counts = Counter(device for devices in given for device in devices)
    assert (set(counts.values()), len(counts)) == ({jobs_on_each}, gpus)
    assert slot_devices(3, 2, []) == [None, None]


def test_a_job_of_several_processes_has_a_gpu_for_each_and_the_first_speaks(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,1")
    events = list(run_jobs(work, [(name, name) for name in "abc"], 2, 2))
    done = [event.result for event in events if event.kind == "done"]
    assert len(done) == 3
    given = {tuple(device for _, device in processes) for processes, _ in done}
    assert given == {("4", "7"), ("1", "4")}  # never one twice
    assert all(processes[0][0] != processes[1][0] for processes, _ in done)
    assert {event.progress.loss for event in events if event.kind == "progress"} == {0}
    assert [Path(folder).exists() for _, folder in done] == [False] * 3


def test_of_several_that_failed_the_first_is_blamed_and_before_it_one_that_died():
    group = WorkerGroup("key", 0, [None, None, None])
    group._final = {
        0: FinalStatus("failed", error="lost", failed_at=3.0),
        1: FinalStatus("failed", error="cause", traceback="its trace", failed_at=2.0),
        2: FinalStatus("ended"),
    }
    assert (group._failure().error, group._failure().traceback) == ("rank 1 of 3: cause", "its trace")
    group._final[2] = FinalStatus("died", exit_code=3)
    assert group._failure().error == "rank 2 of 3: the process ended with exit code 3"


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


def twice(job: str, failed: Event) -> Again | None:
    """Try one that ran out of memory again: first the same, then another job; and say of others that they are not tried."""
    if not failed.out_of_memory:
        return None if failed.key == "raise" else Again(None, "of another kind")
    return Again({"memory": "die", "die": "fine"}[job], f"instead of {job}")


def test_a_job_that_ran_out_of_memory_is_tried_again_as_another(work, monkeypatch):
    kills = itertools.count()
    monkeypatch.setattr(worker_group, "oom_kills", lambda: next(kills))  # the kernel kills one whenever it is asked
    jobs = [(name, name) for name in ("memory", "raise", "leave", "fine")]
    events = list(run_jobs(work, jobs, 1, retry=twice))
    of_first = [(event.kind, event.text) for event in events if event.key == "memory" and event.kind != "progress"]
    notices = [("notice", "instead of memory"), ("notice", "instead of die")]
    assert of_first == [("started", ""), notices[0], ("started", ""), notices[1], ("started", ""), ("done", "")]
    assert [event.result[0] for event in events if event.kind == "done"] == ["fine", "fine"]
    assert [event.key for event in events if event.kind == "started"] == ["memory"] * 3 + ["raise", "leave", "fine"]
    ends = over(events)
    assert ends["raise"].error == "ValueError: no such thing"
    assert ends["leave"].error == "the process ended with exit code 3 (of another kind)"
    board = ProgressDisplay("Cells", dict(jobs), 1)
    for event in events:
        board.take(event)
    assert (board.done, board.failed, board.running) == (2, 2, {})


def test_a_job_of_a_cluster_is_tried_again_where_it_runs(work, monkeypatch):
    kills = itertools.count()
    monkeypatch.setattr(worker_group, "oom_kills", lambda: next(kills))
    [last] = run_remote(RemoteJob(work, "a", "memory", retry=twice), "task 1").events
    assert (last.key, last.kind) == ("a", "done")
    [last] = run_remote(RemoteJob(work, "a", "memory"), "task 1").events
    assert (last.kind, last.out_of_memory) == ("failed", True)


@pytest.mark.parametrize(("kills", "for_memory"), [((3, 4), True), ((None, None), True), ((3, 3), False)])
def test_a_killed_process_ran_out_of_memory_where_the_kernel_counts_one_more_or_says_nothing(
    work, monkeypatch, kills, for_memory
):
    counts = iter(kills)
    monkeypatch.setattr(worker_group, "oom_kills", lambda: next(counts))
    [failed] = over(run_jobs(work, [("die", "die")], 1)).values()
    assert (failed.error, failed.out_of_memory) == ("the process was killed by SIGKILL (out of memory?)", for_memory)


def test_what_failed_says_how_far_it_was_and_whether_for_memory(work):
    events = over(run_jobs(work, [("memory", "memory"), ("raise", "raise")], 2))
    assert (events["memory"].out_of_memory, events["memory"].progress) == (True, Progress("train", 3, 9))
    assert (events["raise"].out_of_memory, events["raise"].progress) == (False, None)


def over(events) -> dict[str, Event]:
    return {event.key: event for event in events if event.kind in ("done", "failed")}


def test_a_notice_is_never_dropped_and_is_a_line(work):
    events = list(run_jobs(work, [("a", "notice")], 1))
    assert [event.text for event in events if event.kind == "notice"] == [f"line {n}" for n in range(20)]
    assert sum(event.kind == "progress" for event in events) < 20  # as one of many reports is
    board = ProgressDisplay("Cells", {"a": "tokens 0, seed 1"}, 1)
    for event in events:
        board.take(event)
    assert board.done == 1
    assert board.line(Event("a", "notice", text="line 3")) == "tokens 0, seed 1: line 3"


def test_whatever_a_job_raises_or_returns_it_fails_alone_and_by_name(work, monkeypatch, capfd):
    monkeypatch.setattr(worker_group, "_GRACE", 1.0)
    expected = {
        "exit": "SystemExit: 0",
        "interrupt": "KeyboardInterrupt: ",
        "wordless": "Wordless: its message cannot be made",
        "surrogate": "ValueError: \\ud800",
        "unreadable": "its result cannot be read: ValueError: invalid literal for int() with base 10: 'no number'",
        "unsendable": "TypeError: cannot pickle '_thread.lock' object",
        "dies while it sends": "the process ended with exit code 4",
    }
    events = over(run_jobs(work, [(name, name) for name in (*expected, "thread", "large", "fine")], 2))
    assert {key: events[key].error for key in expected} == expected
    assert {key: events[key].kind for key in ("thread", "large", "fine")} == dict.fromkeys(("thread", "large", "fine"), "done")
    assert all("Traceback" in events[key].traceback for key in expected if key != "dies while it sends")
    assert len(events["large"].result) == 20_000_000
    assert multiprocessing.active_children() == []
    assert capfd.readouterr() == ("", "")


def test_a_job_that_cannot_be_sent_fails_alone(work):
    events = over(run_jobs(work, [("never", lambda: None), ("fine", "fine")], 1))
    assert events["never"].error.startswith("no process could be started for it: ")
    assert events["fine"].kind == "done"


def test_a_process_that_cannot_be_started_is_a_job_that_failed(work, monkeypatch):
    def none(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(multiprocessing.get_context("forkserver"), "Pipe", none)
    events = over(run_jobs(work, [("a", "a"), ("b", "b")], 1))
    assert [event.error for event in events.values()] == [
        "no process could be started for it: OSError: [Errno 24] Too many open files"
    ] * 2


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_killed_fork_server_is_started_again_and_its_jobs_go_on(work, tmp_path, monkeypatch, when):
    """Also after the check that finds it alive."""
    found = []
    events = run_jobs(work, [("a", tmp_path / "go"), ("b", "b"), ("c", tmp_path / "go")], 1)
    for event in events:
        found.append(event)
        if event == Event("a", "progress", Progress("train", 1, 1)):
            server = forkserver._forkserver
            os.kill(server._forkserver_pid, signal.SIGKILL)
            if when == "while":  # it dies after it was looked at
                monkeypatch.setattr(worker, "start_fork_server", Once(worker.start_fork_server))
                monkeypatch.setattr(server, "ensure_running", Once(server.ensure_running))
            (tmp_path / "go").touch()
    assert {key: event.error for key, event in over(found).items()} == dict.fromkeys("abc", "")


class Once:
    """A function that does nothing when it is first called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self):
        self.calls += 1
        if self.calls > 1:
            self.function()


def test_what_outlives_its_fork_server_is_ended_too(work, monkeypatch):
    monkeypatch.setattr(worker_group, "_GRACE", 1.0)
    events = run_jobs(work, [("a", "sleep")], 1)
    assert [next(events).kind, next(events).kind] == ["started", "progress"]
    [process] = [str(one.pid) for one in multiprocessing.active_children()]
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    events.close()
    assert wait_until(lambda: not runs(process), 10)


def runs(process: str) -> bool:
    state = Path(f"/proc/{process}/status")
    try:
        return "zombie" not in state.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_jobs_of_a_sweep_whose_caller_ignores_signals_are_ended_all_the_same(work, tmp_path):
    (tmp_path / "parent.py").write_text(
        SCRIPT.format(folder=str(tmp_path), job="sleep", ranks=1, kinds=("progress",)).replace(
            "print(event", "raise SystemExit; print(event"
        )
    )
    with running([sys.executable, str(tmp_path / "parent.py")], ignored=SIGNALS) as parent:
        assert wait_until(lambda: len(alive(parent.pid)) >= 4 or parent.poll() is not None, 60)  # the job runs, or is over
        began = time.monotonic()
        assert parent.wait(60) == 0
        assert time.monotonic() - began < worker_group._GRACE
        assert parent.stdout.read() == ""


def test_a_message_that_was_cut_short_is_a_process_that_died():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    os.write(theirs.fileno(), b"\x00\x00\x10\x00" + b"begins")
    theirs.close()
    group = WorkerGroup("key", 0, [None])
    group._connections, group._processes = [ours], [Dead()]
    [event] = group.poll()
    assert (event.kind, event.error) == ("failed", "the process was killed by SIGKILL (out of memory?)")


class Dead:
    exitcode = -signal.SIGKILL

    def join(self, timeout=None): ...
    def terminate(self): ...
    def close(self): ...
    def is_alive(self):
        return False


def test_a_job_that_says_nothing_is_named_once_until_it_is_heard_again(work, tmp_path):
    kinds: list[str] = []
    board = ProgressDisplay("Cells", {"a": "tokens 32, accum 1, seed 1"}, 1)
    for event in run_jobs(work, [("a", tmp_path / "go")], 1, silent_after=1.0):
        board.take(event)
        kinds.append(event.kind)
        if event.kind == "silent":
            assert board.line(event) == "tokens 32, accum 1, seed 1: nothing heard for 1 s (step 1/1)"
            assert board.silent == {"a": "nothing heard for 1 s"}
            board.renderable()
            time.sleep(2)  # and once only
            (tmp_path / "go").touch()
    assert kinds[-1] == "done"
    assert [kind for kind in kinds if kind == "silent"] in (
        ["silent"],
        ["silent", "silent"],
    )  # while it starts, on a slow machine
    assert board.silent == {}
    group = WorkerGroup("a", 0, [None])
    said = [list(group.check_limits(now, 60.0, None)) for now in (59.0, 61.0, 62.0, 1000.0)]
    assert said == [[], [Event("a", "silent", text="nothing heard for 1 min")], [], []]
    ours, theirs = multiprocessing.Pipe(duplex=False)
    group._connections = [ours]
    theirs.send(Progress("train", 2, 9))
    assert [event.kind for event in group.poll(1000.0)] == ["progress"]
    assert [[event.kind for event in group.check_limits(now, 60.0, None)] for now in (1059.0, 1061.0)] == [[], ["silent"]]


def test_a_job_that_takes_too_long_is_ended_and_the_others_go_on(work):
    events = over(run_jobs(work, [("a", "sleep"), ("b", "fine"), ("c", "wait"), ("d", "fine")], 2, timeout=3.0))
    assert {key: event.kind for key, event in events.items()} == {"a": "failed", "b": "done", "c": "failed", "d": "done"}
    assert {events[key].error for key in "ac"} == {
        "it took more than 3 s (--cell-timeout) and was ended; with a higher limit the same command goes on at its last "
        "checkpoint"
    }
    assert multiprocessing.active_children() == []


def test_time_in_which_the_sweep_itself_was_suspended_counts_for_nothing(work, monkeypatch):
    """Ctrl-Z suspends its jobs, too."""
    events = run_jobs(work, [("a", "wait")], 1, silent_after=60.0, timeout=50.0)
    assert next(events).kind == "started"
    now = time.monotonic
    monkeypatch.setattr("qtablate.execute.local.time.monotonic", lambda: now() + 3600)
    assert [next(events).kind for _ in range(3)] == ["progress"] * 3
    monkeypatch.undo()
    events.close()


def test_a_script_without_a_main_guard_is_not_run_again_in_the_processes(tmp_path):
    """As a notebook's cells, exported, or the README's three lines."""
    (tmp_path / "job.py").write_text("def double(job, report): return 2 * job\n")
    (tmp_path / "script.py").write_text(
        "from qtablate.execute.local import run_jobs\n"
        "print('script')\n"
        "print([event.result for event in run_jobs('job:double', [('a', 1), ('b', 2)], 2) if event.kind == 'done'])\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout in ("script\n[2, 4]\n", "script\n[4, 2]\n")
    assert done.stderr == ""
