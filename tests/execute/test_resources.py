"""What a machine, or a container on it, offers: /proc and /sys of file systems that are made here."""

from pathlib import Path

import pytest

from qtablate.execute.resources import available_memory_mb, core_quota, cores, gpus, oom_kills, read_resources

MIB = 2**20
V1_UNLIMITED = "9223372036854771712"


def system(root: Path, cgroup: str = "", available_mib: int = 16000, **files: str) -> Path:
    """A root with a /proc and, below /sys/fs/cgroup, these files."""
    texts = {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {1024 * available_mib} kB\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2 = {"memory.max": str(4096 * MIB), "memory.current": str(1024 * MIB), "memory.stat": f"anon 5\ninactive_file {512 * MIB}"}


def v1(folder: str, limit: int | str, used: int, cache: int = 0) -> dict[str, str]:
    stat = f"inactive_file 7\ntotal_inactive_file {cache * MIB}"
    bytes_ = limit if isinstance(limit, str) else str(limit * MIB)
    return {
        f"{folder}/memory.limit_in_bytes": bytes_,
        f"{folder}/memory.usage_in_bytes": str(used * MIB),
        f"{folder}/memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, 16000),  # no cgroup at all
        ("0::/", V2, 4096 - 1024 + 512),
        ("0::/", {**V2, "memory.max": "max"}, 16000),
        ("0::/", {**V2, "memory.max": str(99999 * MIB)}, 16000),  # more than the machine has
        ("0::/", {**V2, "memory.current": str(9999 * MIB)}, 0),  # a limit that was lowered below what is used
        ("0::/a/b", {f"a/{name}": text for name, text in V2.items()}, 3584),  # the group above sets it
        ("0::/a/b", {**V2, "a/b/memory.max": "max", "a/b/memory.current": "5"}, 3584),
        ("0::/../../of/the/host", V2, 3584),  # a path that is not there: the mount's root is this container's own
        ("4:memory:/job\n0::/", v1("memory/job", 2048, 512, 64), 2048 - 512 + 64),
        ("4:memory:/job\n0::/", v1("memory/job", V1_UNLIMITED, 512), 16000),
        ("4:cpu,memory:/docker/123", v1("memory", 2048, 1024), 1024),  # named as its host sees it
        ("4:cpu:/job", v1("memory/job", 2048, 512), 16000),  # memory is not its group's to limit
    ],
)
def test_available_memory_is_the_least_of_the_machine_and_of_every_cgroup_above(tmp_path, cgroup, files, expected):
    assert available_memory_mb(system(tmp_path, cgroup, **files)) == expected


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "900000 100000"}, 2.0),
        ("1:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "100000"}, None),  # half of a pair says nothing
    ],
)
def test_a_quota_of_cores_is_the_least_of_every_cgroup_above(tmp_path, cgroup, files, expected):
    assert core_quota(system(tmp_path, cgroup, **files)) == expected


def test_where_there_is_no_proc_nothing_is_known_and_nothing_is_raised(tmp_path):
    assert (available_memory_mb(tmp_path), core_quota(tmp_path), oom_kills(tmp_path)) == (None, None, None)


def test_kills_for_want_of_memory_are_counted_by_the_kernel(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 5\noom_kill 3\noom_kill_other 9\n")
    assert oom_kills(tmp_path) == 3


def test_this_machine_has_what_it_says(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    there = read_resources()
    assert (there.cores, there.gpus) == (cores(), 2)
    assert gpus() == ["4", "7"]
    assert there.memory_mb is None or there.memory_mb > 0


def test_gpus_are_counted_by_their_driver(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("qtablate.execute.resources._NVIDIA_DRIVER", str(tmp_path))
    assert gpus() == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert gpus() == ["0", "1"]
