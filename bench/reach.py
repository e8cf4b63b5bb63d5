"""Which code a module can run: the source that it reaches by import, and the packages outside that it stands on.

A finished stage is kept by the hash of the code that can change it and no more: a comment in the evaluator makes no
trained model stale, and an upgrade of pandas retrains nothing.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).parent
_BENEATH = {
    "transformers": ("tokenizers", "safetensors"),
    "trl": ("accelerate",),
    "evaluate": ("rouge_score",),
}
"""Packages that others compute with and that our own source need not name."""
_HARMLESS = frozenset(
    "tqdm jaxtyping psutil filelock codecarbon pynvml packaging markupsafe openai httpx hydra omegaconf".split()
)
"""Packages that show, meter, lock, check or talk to a server, but compute no number. Every other one counts."""


@cache
def code_key(module: str) -> str:
    """sha256 over the source that a module (`bench.stages.ppo`) reaches, and the versions of the packages below it.

    Data files beside a reached module, such as prompts, count as its source.
    """
    digest = hashlib.sha256()
    for path in reached(module):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for name, version in packages(module).items():
        digest.update(f"{name}=={version}\0".encode())
    return digest.hexdigest()


@cache
def reached(module: str) -> tuple[Path, ...]:
    """The files of this package that a module can run, its own first, the others in order of their names."""
    seen: dict[Path, None] = {}
    waiting = [module]
    while waiting:
        for path in _files(waiting.pop()):
            if path not in seen:
                seen[path] = None
                waiting += [name for name in _imports(path) if name.partition(".")[0] == _ROOT.name]
    first, *others = seen
    resources = {resource for path in seen if path.name == "__init__.py" for resource in _resources(path.parent)}
    return (first, *sorted({*others, *resources}))


@cache
def packages(module: str) -> dict[str, str]:
    """Package -> version, of the installed packages that the reached source imports and that can change a number."""
    tops = {name.partition(".")[0] for path in reached(module) if path.suffix == ".py" for name in _imports(path)}
    tops |= {below for top in tops for below in _BENEATH.get(top, ())}
    tops -= {_ROOT.name} | _HARMLESS | sys.stdlib_module_names
    owners = _owners()
    names = sorted({owner for top in tops for owner in owners.get(top, [])})
    return {name: metadata.version(name) for name in names}


_owners = cache(metadata.packages_distributions)
"""Import name -> distributions; reads the files of all of them."""


def _files(name: str) -> Iterator[Path]:
    """The files behind a dotted name, from the last one to the packages above it; the name may end in an attribute.

    The package's own `__init__` is left out: it holds the version alone, and a release retrains nothing.
    """
    parts = name.split(".")[1:]
    for count in range(len(parts), 0, -1):
        place = _ROOT.joinpath(*parts[:count])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                yield path


def _resources(folder: Path) -> Iterator[Path]:
    """Files of a package's folder and of its subfolders that are no packages, but for source and its leftovers."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _resources(path)
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """The dotted names that a file imports, anywhere in it but for the type checker alone."""
    if path.suffix != ".py":
        return ()
    names: list[str] = []
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return tuple(names)
