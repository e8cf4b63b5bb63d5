"""The one way a config value is refused."""

from typing import Any

from bench.errors import ConfigError


def require(condition: bool, key: str, value: Any, rule: str) -> None:
    """Raise a one-line ConfigError naming the key, the rule and the value unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{key} {rule}, got {value!r}")
