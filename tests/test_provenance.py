"""Hashes that name what was run."""

import hashlib
from pathlib import Path

import pytest

from bench import provenance
from bench.provenance import git_state, stable_hash


def test_hash_does_not_depend_on_key_order():
    assert stable_hash({"a": 1, "b": {"c": 2, "d": 3}}) == stable_hash({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize("other", [{"a": 1.5}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None}])
def test_hash_depends_on_keys_values_and_types(other: dict):
    assert stable_hash({"a": 1}) != stable_hash(other)


def test_hash_is_sha256_of_canonical_json():
    """A run's id is made from it, so it may not change between versions."""
    assert stable_hash({"b": [1, "é"], "a": None}) == hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert git_state() == {"commit": None, "dirty": None}
