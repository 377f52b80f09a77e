"""What a person can act on. Every other exception is a bug and keeps its traceback."""

from __future__ import annotations


class HeedError(Exception):
    """Something that a person can mend: where it is, what is wrong with it, and what to do.

    Printed as two lines, `where: what` and `hint: ...`, with exit code 2.
    """

    def __init__(self, where: str, what: str, hint: str) -> None:
        super().__init__(where, what, hint)
        self.where, self.what, self.hint = where, what, hint

    def __str__(self) -> str:
        where = self.where.replace("\n", "\\n")  # a name that was pasted with its line end
        return f"{where}: {self.what}\nhint: {self.hint}"


class ConfigError(HeedError):
    """A setting, a recipe file or a flag. `where` is `file: setting` or `--setting`."""


class DataError(HeedError):
    """A row, a file or a data set. `where` is `file:line` where a line can be named."""


class CheckpointError(HeedError):
    """A checkpoint directory that is missing, incomplete, or does not fit what it is used with."""


class RunError(HeedError):
    """A run that cannot go on: a loss that is not finite, a full disk. `where` names the run and its step."""
