"""Errors that a user can mend: one line each (what, where, how), and the exit code that fits."""


class UserError(Exception):
    """A problem whose message is the whole story: printed as one line, without a traceback.

    `exit_code` is 2 for what the user wrote (config, data, run folder) and 1 for what the machine
    lacks (a model, the network, disk).
    """

    exit_code = 2


class ConfigError(UserError):
    """A config key or value that cannot be used."""


class DataError(UserError):
    """Input data that cannot be used; the message names the file and, where there is one, the line."""


class RunFolderError(UserError):
    """A run folder that belongs to another config, or finished runs that may not be compared."""


class ResourceError(UserError):
    """Something the machine lacks: a model, the hub, disk space, a writable folder."""

    exit_code = 1


def squeezed(text: str) -> str:
    """In one line."""
    return " ".join(text.split())


def in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {squeezed(str(error))}"
