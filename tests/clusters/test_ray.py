"""Sweeps on a real Ray cluster of two nodes: the tables are those of this machine alone, whatever is killed on the way.

python -m pytest -m slow tests/clusters/test_ray.py
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from launch import environment, qtablate, running, tables, wait_until

pytestmark = [
    pytest.mark.slow,
    # importing it here would take seconds, and change sys.path
    pytest.mark.skipif(find_spec("ray") is None, reason="the package ray is not installed (pip install 'qtablate[ray]')"),
]

GRID = ["--tokens", "0,4", "--accum", "1", "--seeds", "1,2", "--samples", "640", "--items-per-task", "3", "--controls", "blind"]
_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    else:
        nodes.append(cluster.add_node(num_cpus=1))
    print("done", flush=True)
"""


@dataclass
class RayCluster:
    """A head and another node, each with a processor: processes of another process, which this one tells what to kill."""

    process: subprocess.Popen
    address: str

    def tell(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def ray_cluster(*before: str, **variables: str) -> Iterator[RayCluster]:
    """A cluster within the block; `before`: words that start its command, `variables`: of its environment."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | variables
    process = subprocess.Popen([*before, sys.executable, "-c", _CLUSTER], text=True, start_new_session=True, env=env, **options)
    try:
        address = process.stdout.readline().strip()
        assert address, "no Ray cluster starts here"
        yield RayCluster(process, address)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"], capture_output=True, check=False)
        for stream in (process.stdin, process.stdout):
            stream.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def local(cache, tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The tables of the same sweep on this machine alone."""
    out = tmp_path_factory.mktemp("local") / "r"
    done = qtablate(cache, "sweep", *GRID, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return tables(out)


def sweep(cluster: RayCluster, cache: Path, out: Path):
    words = ["sweep", *GRID, "--executor", "ray", "--ray", cluster.address, "--out", str(out)]
    return running([sys.executable, "-m", "qtablate", *words], environment(cache))


def claimed(out: Path) -> list[Path]:
    return [path for path in out.glob("claims/*.json") if not path.name.startswith("sweep-")]


def test_a_node_that_is_killed_costs_no_cell(cluster, cache, local, tmp_path):
    out = tmp_path / "r"
    with sweep(cluster, cache, out) as driver:
        assert wait_until(lambda: len(claimed(out)) == 2, 180)
        cluster.tell("kill")
        said, _ = driver.communicate(timeout=400)
    cluster.tell("add")
    assert driver.returncode == 0, said
    assert tables(out) == local
    assert not (out / "claims").exists()
    assert not list(out.glob(".shared*"))


def test_a_driver_that_is_killed_goes_on_with_the_same_command(cluster, cache, local, tmp_path):
    out = tmp_path / "r"
    with sweep(cluster, cache, out) as driver:
        assert wait_until(lambda: claimed(out), 180)
        driver.kill()
        driver.wait()
    with sweep(cluster, cache, out) as driver:
        said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert tables(out) == local


def test_without_a_cluster_it_is_one_message(cache, tmp_path):
    done = qtablate(cache, "sweep", *GRID, "--executor", "ray", "--ray", "127.0.0.1:1", "--out", str(tmp_path / "r"))
    assert done.returncode == 2
    assert "--ray 127.0.0.1:1: no Ray cluster there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="hiding a folder from the nodes takes root")
def test_where_the_nodes_do_not_see_the_folder_its_files_are_sent_back(cache, local, tmp_path):
    """The nodes have a name space of their own, in which the folder is an empty one, and a cache of their own."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    unseen = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh"]
    with (
        ray_cluster(*unseen, QTABLATE_CACHE=str(tmp_path / "their cache")) as cluster,
        sweep(cluster, cache, hidden / "r") as driver,
    ):
        said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert "does not see" in said
    assert "files are sent back" in said
    assert tables(hidden / "r") == local
    assert (tmp_path / "their cache").exists()
