"""A real Slurm of two nodes on one machine, for tests: own munge key and socket, no systemd, no accounting.

    python tests/clusters/slurm_cluster.py FOLDER     # runs until Ctrl-C, and prints what to export

Debian: apt-get install slurmctld slurmd slurm-client munge
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = ("node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun")
_CONF = """
ClusterName=qtablate
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
KillWait=5
MinJobAge=60
MaxArraySize=8
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Which program is not installed; empty where all are."""
    names = [name for name in PROGRAMS if not _program(name)]
    return f"no {', '.join(names)} (Debian: slurmctld slurmd slurm-client munge)" if names else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class SlurmCluster:
    """The processes of a cluster whose environment is in `environment`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Start all daemons and wait until both nodes are idle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self.folder.chmod(0o755)
        ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
            for name, port in zip(NODES, ports[1:], strict=True)
        )
        conf = _CONF.format(
            host=socket.gethostname(),
            port=ports[0],
            user=getpass.getuser(),
            folder=self.folder,
            nodes=nodes,
            names=",".join(NODES),
        )
        (self.folder / "slurm.conf").write_text(conf)
        files = [
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        ]
        self._launch("munged", "munged", "-F", "--force", *files)
        _wait(lambda: (self.folder / "munge.socket").exists(), "munged has no socket")
        self._launch("slurmctld", "slurmctld", "-D", "-c")
        for name in NODES:
            self.start_node(name)
        _wait(lambda: self.call("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], "the nodes are not idle")

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self._launch(name, "slurmd", "-D", "-N", name)

    def _launch(self, name: str, program: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("a") as log:
            self._daemons[name] = subprocess.Popen(
                [str(_program(program)), *words], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def call(self, *words: str) -> str:
        """Run a Slurm command and return what it prints; empty where it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    def steps(self) -> list[int]:
        """The processes of running steps: each watches over one, and ends with it."""
        return [pid for pid, name in _processes() if name == "slurmstepd" and self._is_ours(pid)]

    def step_of(self, job: str) -> int:
        """The process of the step that a job (`17_3`) runs in."""
        number = self.call("squeue", "-h", "-j", job, "-o", "%A").strip()
        [step] = [pid for pid in self.steps() if f"[{number}.0]" in _words(pid)]
        return step

    def steps_of(self, node: str) -> list[int]:
        """Those of one node, whose daemon's log they hold open."""
        return [pid for pid in self.steps() if any(one.endswith(f"slurmd.{node}.log") for one in _open_files(pid))]

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return str(self.folder).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node and everything that it runs, as a power cut does."""
        self._daemons[name].kill()
        self._daemons.pop(name).wait()

    def stop(self) -> None:
        """End every job and daemon."""
        self.call("scancel", "-u", getpass.getuser())
        for name in (*NODES, "slurmctld", "munged"):
            daemon = self._daemons.pop(name, None)
            if daemon:
                daemon.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(10)
                daemon.kill()
                daemon.wait()
        for pid in self.steps():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                yield int(folder.name), (folder / "comm").read_text().strip()


def _words(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _open_files(pid: int) -> list[str]:
    with suppress(OSError):
        return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return []


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(true, what: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"after {seconds:g} seconds {what}")
        time.sleep(0.2)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster within the block."""
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), slurm_cluster(Path(sys.argv[1])):
        print(f"export SLURM_CONF={Path(sys.argv[1]) / 'slurm.conf'}", flush=True)
        signal.pause()
