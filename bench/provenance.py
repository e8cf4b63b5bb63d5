"""Where a number came from: commit, package versions, config hash, device."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = """
rlhf-vs-dpo torch transformers trl datasets evaluate rouge-score accelerate tokenizers numpy scipy pandas matplotlib
hydra-core
""".split()
_ROOT = Path(__file__).parent


def stable_hash(value: Any) -> str:
    """sha256 of the value's canonical JSON, in hex."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def git_state() -> dict[str, Any]:
    """Commit and whether the tree differs from it; nulls for an installed package."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    if not (_ROOT.parent / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(_ROOT.parent), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def package_versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # run from a checkout that was not installed
    return versions


def device_info(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "count": torch.cuda.device_count()}
    return {
        "type": device.type,
        "name": platform.processor() or platform.machine(),
        "count": 1,
        "threads": torch.get_num_threads(),
    }
