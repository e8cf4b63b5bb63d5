"""Where the config files are: inside the installed package, or beside it in a checkout."""

from pathlib import Path

from bench.errors import ResourceError

_PACKAGE = Path(__file__).parents[1]


def conf_dir() -> Path:
    for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ResourceError(f"the config files are missing beside {_PACKAGE}; install rlhf-vs-dpo again")
