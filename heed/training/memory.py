"""Out of memory: recognised in whatever torch makes of it, and told with the setting to lower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from heed.errors import RunError

TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
FIRST = ("microbatch_tokens", "microbatch", "sampling.batch", "minibatch", "batch")
"""What changes memory and neither the data nor, but for rounding, the numbers; then what changes the numbers."""
THEN = ("max_tokens", "sequence", "sampling.max_new_tokens")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the processor's or an accelerator's memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in TEXTS)


def told(error: BaseException, where: str, last_good: str, settings: BaseModel | None) -> RunError:
    """The error for people. `settings` are those of the stage; None where no step had begun."""
    what = f"out of memory: {next(iter(str(error).strip().splitlines()), 'nothing more can be allocated')}"
    if settings is None:
        return RunError(where, what, "the models do not fit: use a smaller one, or `dtype` bfloat16")
    return RunError(where, f"{what}; {last_good}", what_to_lower(settings))


def what_to_lower(settings: BaseModel) -> str:
    """`lower microbatch_tokens (now 8192), batch (now 32) or max_tokens (now 512)`: those that a stage has, the best
    first; what is at 1 already is left out."""
    values = dict(_flat(settings.model_dump()))
    named = [f"`{name}` (now {values[name]:,})" for name in (*FIRST, *THEN) if values.get(name, 0) > 1]
    lower = (
        f"lower {', '.join(named[:-1])} or {named[-1]}" if len(named) > 1 else f"lower {', '.join(named) or 'nothing'}"
    )
    may_recompute = getattr(settings, "recompute", True) is False
    return f"{lower}, or set `recompute`" if may_recompute else lower


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
