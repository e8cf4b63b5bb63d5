"""Hashes that name what was run."""

import hashlib
from pathlib import Path

import pytest

from bench import provenance
from bench.provenance import code_hash, git_state, stable_hash


def test_hash_does_not_depend_on_key_order():
    assert stable_hash({"a": 1, "b": {"c": 2, "d": 3}}) == stable_hash({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize("other", [{"a": 1.5}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None}])
def test_hash_depends_on_keys_values_and_types(other: dict):
    assert stable_hash({"a": 1}) != stable_hash(other)


def test_hash_is_sha256_of_canonical_json():
    """A run's id is made from it, so it may not change between versions."""
    assert stable_hash({"b": [1, "é"], "a": None}) == hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in the place of ours."""
    for name in ("ops.py", "train/ppo.py", "report/page.py", "cli/app.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    return tmp_path


def fresh_code_hash() -> str:
    return code_hash.__wrapped__()  # it is cached for the life of a process


@pytest.mark.parametrize(
    ("name", "matters"), [("ops.py", True), ("train/ppo.py", True), ("report/page.py", False), ("cli/app.py", False)]
)
def test_code_hash_sees_what_can_change_a_number(name: str, matters: bool, package: Path):
    before = fresh_code_hash()

    (package / name).write_text("x = 2\n")

    assert (fresh_code_hash() != before) == matters


def test_code_hash_sees_a_renamed_file(package: Path):
    before = fresh_code_hash()

    (package / "ops.py").rename(package / "losses.py")

    assert fresh_code_hash() != before


def test_an_installed_package_has_no_commit(package: Path):
    assert git_state() == {"commit": None, "dirty": None}
