"""What a sweep makes of what Slurm says, without a Slurm: tests/clusters/test_slurm.py has a real one."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from settings import SETTINGS

from qtablate.axes import Condition
from qtablate.claims.claim import Claim
from qtablate.claims.owner import Owner
from qtablate.errors import ConfigError
from qtablate.execute import slurm, slurm_jobs, slurm_queue
from qtablate.execute.events import Event
from qtablate.execute.remote import Outcome, RemoteJob
from qtablate.execute.slurm import SlurmOptions, run_on_slurm
from qtablate.execute.slurm_jobs import JobFile, Submitted, queued_jobs
from qtablate.execute.slurm_queue import Queued, SlurmError, cancel_command, minutes
from qtablate.execute.slurm_task import SlurmTask, read_jobs, scheduled_as
from qtablate.grid import Cell, Fingerprints
from qtablate.records import Record
from qtablate.store import Store


@dataclass(frozen=True)
class Job:
    cell: Cell


def remote(key: str, root: Path | None) -> RemoteJob:
    cell = Cell(Condition(0, 1, 8, "mixed", "none"), 1, 1, SETTINGS, Fingerprints("m", "t", "b"))
    return RemoteJob("module:function", key, Job(cell), store=root)


@dataclass
class FakeSlurm:
    """Takes jobs, and does with them at each look what a test has planned."""

    root: Path
    states: dict[str, Queued] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    arrays: list[list[str]] = field(default_factory=list)
    """Keys of each array that was submitted."""
    most: int = 100

    def submit(self, tasks: list[SlurmTask], folder: Path, options: SlurmOptions) -> list[str]:
        number = len(self.arrays) + 1
        self.arrays.append([task.key for task in tasks])
        assert all(task.key in read_jobs(task.file) for task in tasks)
        ids = [f"{number}_{n}" for n in range(len(tasks))]
        self.states |= dict.fromkeys(ids, Queued("PENDING", "Resources"))
        return ids

    def end(self, job: str, how: str = "COMPLETED", outcome: object = None) -> None:
        """A job leaves the queue, with or without a word."""
        self.states.pop(job)
        self.ended[job] = how
        if outcome is not None:
            path = self.root / "slurm" / f"{job}_0_result.pkl"
            path.write_bytes(pickle.dumps(outcome))


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "r")
    for module in (slurm, slurm_jobs):
        monkeypatch.setattr(module, "queue", lambda: dict(fake.states))
    monkeypatch.setattr(slurm, "_submit", fake.submit)
    monkeypatch.setattr(slurm, "ended_as", lambda job: fake.ended.get(job, ""))
    monkeypatch.setattr(slurm, "largest_array", lambda: fake.most)
    monkeypatch.setattr(slurm, "_GRACE", 0.0)
    return fake


def run(cluster: FakeSlurm, keys: str, cells: bool = True) -> Iterator[Event]:
    jobs = [remote(key, cluster.root if cells else None) for key in keys]
    return run_on_slurm(jobs, cluster.root, SlurmOptions({}), look_seconds=0.0)


def done(key: str) -> tuple[str, Outcome]:
    return ("success", Outcome((Event(key, "done"),)))


def finish(store: Store, key: str) -> None:
    store.write_rows(store.cell_file(key, "answers.csv"), [{"a": 1}], ["a"])
    store.write_record(Record(key, "ok", {}, {"accuracy": 1.0}, files=store.checksums(key)))


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.key, event.kind) for event in events]


def test_jobs_go_in_arrays_that_slurm_takes_and_what_they_leave_is_read(cluster):
    cluster.most = 2
    events, seen = run(cluster, "abc", cells=False), []
    for event in events:
        seen.append(event)
        if event == Event("c", "queued", text="Slurm job 2_0"):
            for key, job in (("a", "1_0"), ("c", "2_0")):
                cluster.end(job, outcome=done(key))
            cluster.end("1_1", outcome=("success", Outcome((Event("b", "failed", error="no memory", traceback="long"),))))
    assert cluster.arrays == [["a", "b"], ["c"]]
    assert kinds(seen)[-3:] == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert seen[-2].error == "no memory"
    assert [path.name for path in (cluster.root / "slurm").iterdir()] == ["1_1_0_result.pkl"]  # of the one that failed


def test_a_cell_is_followed_by_its_claim(cluster):
    store = Store(cluster.root)
    events = run(cluster, "a")
    assert next(events) == Event("a", "queued", text="Slurm job 1_0")
    assert next(events) == Event("a", "queued", text="pending: Resources")
    cluster.states["1_0"] = Queued("RUNNING", "")
    claim = store.claims.take("a", Owner("node1", "boot", 7, "1", job=scheduled_as("1_0")))
    assert next(events) == Event("a", "started")
    claim.about = {"progress": {"phase": "train", "done": 3, "total": 9, "loss": 0.5}}
    claim.beat()
    assert str(next(events).progress) == "step 3/9"
    claim.release()
    cluster.states["1_0"] = Queued("PENDING", "BeginTime")  # it was queued again
    assert next(events) == Event("a", "queued", text="pending: BeginTime")
    finish(store, "a")  # by whichever process
    assert list(events) == [Event("a", "done")]


def test_a_sweep_that_comes_back_finds_its_jobs_and_submits_only_the_others(cluster):
    events = run(cluster, "ab")
    assert [next(events).key for _ in "ab"] == ["a", "b"]
    events.close()  # the jobs are Slurm's
    assert set(JobFile(cluster.root).read()) == {"a", "b"}
    assert queued_jobs(cluster.root) == {"a": "Slurm job 1_0 (pending: Resources)", "b": "Slurm job 1_1 (pending: Resources)"}
    cluster.end("1_1", "CANCELLED")
    events, seen = run(cluster, "abc"), []
    for event in events:
        seen.append(event)
        if event.kind == "queued" and event.key == "a":
            cluster.end("1_0", outcome=done("a"))
            cluster.end("2_0", outcome=done("b"))
            cluster.end("2_1", outcome=done("c"))
    assert cluster.arrays == [["a", "b"], ["b", "c"]]
    assert sorted(kinds(seen)[-3:]) == [("a", "done"), ("b", "done"), ("c", "done")]
    assert queued_jobs(cluster.root) == {}


@pytest.mark.parametrize("how", ["NODE_FAIL, exit code 0:0", "FAILED, exit code 0:9", "OUT_OF_MEMORY, exit code 0:125", ""])
def test_what_a_machine_took_is_submitted_again_and_what_a_cell_did_is_not(cluster, how):
    store = Store(cluster.root)
    store.claims.take("a", Owner("node1", "boot", 7, "1", job=scheduled_as("1_0")))
    seen = []
    for event in run(cluster, "a"):
        seen.append(event)
        if event.kind == "queued" and event.text.startswith("Slurm job"):
            cluster.end(event.text.removeprefix("Slurm job "), how)
    again = how.startswith(("NODE_FAIL", "FAILED"))
    assert len(cluster.arrays) == (3 if again else 1)
    assert seen[-1].kind == "failed"
    assert (how or "is no longer known to Slurm") in seen[-1].error
    assert store.read_record("a") is None or store.read_record("a").status == "failed"
    assert store.claims.holder("a") is None  # nobody waits until it goes stale


def test_a_claim_of_another_process_is_left_alone(cluster):
    """A sweep elsewhere runs the cell while this one's job has died."""
    store = Store(cluster.root)
    theirs = store.claims.take("a", Owner("laptop", "boot", 7, "1"))
    assert isinstance(theirs, Claim)
    for event in run(cluster, "a"):
        if event.text == "Slurm job 1_0":
            cluster.end("1_0", "TIMEOUT")
    assert theirs.held()


def test_an_error_of_the_job_itself_keeps_its_traceback(cluster):
    seen = []
    for event in run(cluster, "a", cells=False):
        seen.append(event)
        if event.kind == "queued":
            cluster.states.setdefault("1_0", Queued("RUNNING", ""))
            cluster.end("1_0", outcome=("error", "Traceback ...\nOSError: stale file handle\n"))
    assert (seen[-1].error, seen[-1].traceback) == (
        "Slurm job 1_0: OSError: stale file handle",
        "Traceback ...\nOSError: stale file handle\n",
    )


def test_what_another_sweep_has_submitted_stays(cluster):
    """Two sweeps of one grid may both use Slurm: the second is already at its confirmation, say."""
    JobFile(cluster.root).update({"other": Submitted("9_0")})
    (cluster.root / "slurm" / "jobs-other.pkl").write_bytes(b"")
    for event in run(cluster, "a", cells=False):
        if event.text == "Slurm job 1_0":
            cluster.end("1_0", outcome=done("a"))
    assert set(JobFile(cluster.root).read()) == {"other"}
    assert (cluster.root / "slurm" / "jobs-other.pkl").exists()


def test_a_job_file_that_cannot_be_read_is_none(tmp_path):
    (tmp_path / "slurm").mkdir()
    for text in ("{", "[]", '{"a": 1}', '{"a": {"other": 1}}'):
        (tmp_path / "slurm" / "jobs.json").write_text(text)
        assert JobFile(tmp_path).read() == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1:30", 2), ("2:00:00", 120), ("1-0", 1440), ("1-2:30", 1590), ("0-0:0:1", 1), ("10:0:0", 600)],
)
def test_times_are_read_as_sbatch_reads_them(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is no time"):
        minutes(text)


def test_what_slurm_prints_is_read(monkeypatch):
    said = {
        "squeue": "  17_3|PENDING|Resources\n18|RUNNING|None\n19_[4-9%2]|PENDING|(JobArrayTaskLimit)\n",
        "show": "JobId=20 JobState=NODE_FAIL Reason=NodeDown Dependency=(null) ExitCode=0:1 RunTime=00:01:00",
        "config": "MaxArraySize            = 1001\nMaxJobCount             = 10000\n",
    }
    monkeypatch.setattr(
        slurm_queue, "ask", lambda *words: said["config" if "config" in words else "show" if "job" in words else words[0]]
    )
    assert slurm_queue.queue()["17_3"] == Queued("PENDING", "Resources")
    assert str(slurm_queue.queue()["18"]) == "running"
    assert slurm_queue.ended_as("20") == "NODE_FAIL, exit code 0:1, NodeDown"
    assert slurm_queue.largest_array() == 1001


def test_without_slurm_it_is_one_message(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SlurmError, match="--executor slurm: there is no command squeue here"):
        slurm_queue.queue()
    assert slurm_queue.ended_as("1") == ""


def test_jobs_are_cancelled_by_their_arrays():
    assert cancel_command(["17_0", "17_1", "18"]) == "scancel 17 18"


def test_a_time_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--slurm time: .*expected minutes, or D-HH:MM:SS"):
        slurm._submit([], tmp_path, SlurmOptions({"time": "soon"}))
