"""How many threads the server starts, inside a container and outside."""

import os
from pathlib import Path

import pytest

from deblur import cpus


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    return tmp_path / "cpu.max"


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    folder = tmp_path / "cpu"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("150000 100000\n", 1.5),
        ("50000 100000", 0.5),
        ("400000 100000", 4.0),
        ("max 100000\n", None),
    ],
)
def test_quota_of_cgroup_v2(v2: Path, v1: Path, content: str, expected: float | None) -> None:
    v2.write_text(content)
    assert cpus._quota(v2, v1) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("250000\n", 2.5), ("-1\n", None), ("garbage", None)]
)
def test_quota_of_cgroup_v1(v2: Path, v1: Path, quota: str, expected: float | None) -> None:
    (v1 / "cpu.cfs_quota_us").write_text(quota)
    (v1 / "cpu.cfs_period_us").write_text("100000\n")
    assert cpus._quota(v2, v1) == expected


def test_unlimited_v2_is_not_asked_again_of_v1(v2: Path, v1: Path) -> None:
    v2.write_text("max 100000")
    (v1 / "cpu.cfs_quota_us").write_text("100000")
    (v1 / "cpu.cfs_period_us").write_text("100000")
    assert cpus._quota(v2, v1) is None


def test_damaged_v2_falls_back_to_v1(v2: Path, v1: Path) -> None:
    v2.write_text("nonsense")
    (v1 / "cpu.cfs_quota_us").write_text("300000")
    (v1 / "cpu.cfs_period_us").write_text("100000")
    assert cpus._quota(v2, v1) == 3.0


def test_no_cgroup_is_no_limit(v2: Path, v1: Path) -> None:
    assert cpus._quota(v2, v1) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [
        (8, None, 8),
        (8, 1.5, 2),
        (8, 2.0, 2),
        (8, 0.25, 1),
        (2, 6.5, 2),
        (1, None, 1),
    ],
)
def test_quota_is_rounded_up_and_capped_by_affinity(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(cpus, "_quota", lambda: quota)
    assert cpus.usable_cpus() == expected


@pytest.mark.parametrize(("present", "expected"), [(6, 6), (None, 1)])
def test_without_affinity_the_cpus_present_count(
    monkeypatch: pytest.MonkeyPatch, present: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: present)
    monkeypatch.setattr(cpus, "_quota", lambda: None)
    assert cpus.usable_cpus() == expected
