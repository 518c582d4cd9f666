"""What num_threads="auto" takes: affinity, and the quota of control groups of both kinds, as the system shows them."""

from __future__ import annotations

import os

import pytest
from nets import network
from specs import stack

from lstm_fast import Model, _cpus
from lstm_fast.config import MOST_THREADS, choose_threads, config


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine with these CPUs, memberships and files of control groups; returns what "auto" takes there."""

    def make(cpus: int, membership: str | None, files: dict[str, str]) -> int:
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if membership is not None:
            (tmp_path / "membership").write_text(membership)
        monkeypatch.setattr(_cpus, "_MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr(_cpus, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
        return choose_threads("auto")

    return make


def v1(folder: str, quota: object, period: object = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


V1 = "12:memory:/a/b\n5:cpu,cpuacct:/a/b\n1:name=systemd:/elsewhere\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "max 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "500000 100000\n"}, 5),
        ("0::/a/b\n", {"a/b/cpu.max": "600000 100000\n", "a/cpu.max": "100000 50000\n", "cpu.max": "7 1\n"}, 2),
        ("0::/a/b\n", {"a/c/cpu.max": "100000 100000\n"}, None),
        ("0::/a:b/c\n", {"a:b/cpu.max": "400000 100000\n"}, 4),
        ("0::/docker/of/the/host\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/../beside\n", {"beside/cpu.max": "100000 100000\n", "cpu.max": "300000 100000\n"}, 3),
        ("0::/gone (deleted)\n", {"cpu.max": "300000 100000\n"}, 3),
        (V1, v1("cpu/a/b", 150_000), 1.5),
        (V1, v1("cpu/a/b", 400_000) | v1("cpu/a", 60_000, 20_000) | v1("cpu", -1), 3),
        (V1, v1("cpu/a/b", -1) | v1("cpu", -1), None),
        (V1, v1("cpu", 200_000), 2),
        (V1 + "0::/u\n", v1("cpu/a", 400_000) | {"u/cpu.max": "200000 100000\n"}, 2),
        ("3:cpuset:/a\n", v1("cpu/a", 100_000), None),
        (None, {"cpu.max": "200000 100000\n"}, 2),
        (None, v1("cpu", 200_000), 2),
    ],
)
def test_quotas(machine, membership, files, quota):
    assert machine(64, membership, files) == (64 if quota is None else int(quota))
    assert _cpus.cgroup_quota() == quota
    assert config()["threads"]["cgroup_quota"] == quota


@pytest.mark.parametrize("text", ["", "max", "one two", "100000", "100000 0", "0 100000", "-5 100000", "1 2 3", "\xff"])
def test_what_is_no_quota_sets_no_limit(machine, text):
    assert machine(8, "nonsense\n::\n\n0::/a\n", {"a/cpu.max": text, "cpu.max": "300000 100000"}) == 3
    assert machine(8, "0::/a\n", v1("cpu", 100_000, 0) | {"cpu.max": text}) == 8


def test_the_lesser_of_affinity_and_quota_counts(machine):
    assert machine(2, "0::/\n", {"cpu.max": "800000 100000"}) == 2
    assert machine(8, "0::/\n", {"cpu.max": "50000 100000"}) == 1
    assert machine(1000, "0::/\n", {"cpu.max": "max 100000"}) == MOST_THREADS
    model = Model(network(stack("lstm")), num_threads="auto")
    assert model.num_threads == MOST_THREADS


def test_without_affinity_all_cpus_count(machine, monkeypatch):
    machine(3, "0::/\n", {})
    monkeypatch.delattr(os, "sched_getaffinity")
    assert choose_threads("auto") == min(os.cpu_count(), MOST_THREADS)
    assert config()["threads"]["affinity"] is None


def test_auto_from_the_environment(machine, monkeypatch):
    monkeypatch.setenv("LSTM_FAST_NUM_THREADS", "auto")
    machine(5, "0::/\n", {})
    assert choose_threads(None) == 5
