"""The house rules: imports go down, hydra stays at the top, reports need no model, nothing is unpickled."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bench"
FLOORS = {
    "arms": 0, "reach": 0,
    "errors": 0, "files": 0, "records": 0, "provenance": 0, "cost": 0, "progress": 0, "processes": 0, "validation": 0,
    "terminal": 0, "hub": 0,
    "ops": 1, "forward": 1, "special_tokens": 1, "losses": 1, "encoding": 1, "kv_cache": 1, "micro_batches": 1,
    "packing": 1, "paths": 1, "decoding": 1,
    "data": 2, "models": 2, "generation": 2,
    "scoring": 3,
    "train": 4, "evaluate": 4,
    "tuning": 4, "config": 5,
    "stages": 6, "forecast": 6,
    "pipeline": 7, "audit": 7, "scored": 7,
    "report": 8,
    "cli": 9, "perf": 9,
    "__main__": 10, "judge_audit": 10, "score": 10, "cache": 10, "plan": 10,
    "known_reward": 10,
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """The dotted names that a source imports anywhere in it; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(room: str, other: str) -> bool:
    """Rooms below are open; of the rooms on one floor only those of floors 0 and 1 know each other."""
    return room == other or FLOORS[other] < FLOORS[room] or FLOORS[other] == FLOORS[room] <= 1


def upward(room: str, source: str) -> list[str]:
    """The imports of a source in `room` that it may not make."""
    ours = [name for name in imports(source) if name.startswith("bench.")]
    return [name for name in ours if not may_import(room, name.split(".")[1])]


def test_every_module_is_in_a_room():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}

    assert rooms == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path: Path):
    assert upward(room_of(path), path.read_text(encoding="utf-8")) == []


def test_an_import_of_an_upper_or_neighbouring_room_is_found():
    source = "import bench.report\ndef f():\n    from bench.train.dpo import train_dpo\n    from bench.data import load"

    assert upward("evaluate", source) == ["bench.report", "bench.train.dpo.train_dpo"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_cli_knows_hydra(path: Path):
    tops = {name.partition(".")[0] for name in imports(path.read_text(encoding="utf-8"))}

    assert room_of(path) == "cli" or not tops & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_code_is_run_from_data(path: Path):
    """Models come from safetensors; pickles and `trust_remote_code` run what strangers wrote.

    Where transformers is not told, it asks on the terminal.
    """
    source = path.read_text(encoding="utf-8")

    assert untold(source) == []
    assert '"trust_remote_code": True' not in source
    assert not {"pickle", "cPickle", "dill", "joblib"} & {name.partition(".")[0] for name in imports(source)}
    loads = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and node.attr == "load"]
    assert not [node for node in loads if isinstance(node.value, ast.Name) and node.value.id == "torch"]


def untold(source: str) -> list[str]:
    """Calls that load a model, config or tokenizer and do not say trust_remote_code=False."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if getattr(call.func, "attr", "") in ("from_pretrained", "from_config")]
    told = [ast.dump(ast.parse("f(trust_remote_code=False)").body[0].value.keywords[0])]  # type: ignore[attr-defined]
    return [
        ast.unparse(call)
        for call in loads
        if not ast.unparse(call.func).startswith("Peft") and not {ast.dump(k) for k in call.keywords} & {*told}
    ]


def test_a_load_that_may_ask_is_found():
    says = "AutoTokenizer.from_pretrained(name, trust_remote_code=False)"
    silent, trusts = "AutoConfig.from_pretrained(name)", "kind.from_pretrained(name, trust_remote_code=True)"

    assert untold(f"{says}\n{silent}\n{trusts}") == [silent, trusts]


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "bench.report",
        "bench.report.__main__",
        "bench.cli.app",
        "bench.cli.audit",
        "bench.cli.cache",
        "bench.cli.plan",
        "bench.cli.score",
    ],
)
def test_imports_without_torch(module: str):
    """A report needs no model, and --help should not wait for one."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0
