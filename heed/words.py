"""The door where text enters: what no tokenizer, file or terminal should be given is mended here, and nowhere else.

Nothing else of what people wrote is changed: no Unicode normalisation, no spaces, no spelling.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Any

MENDED: dict[str, re.Pattern[str]] = {
    "foreign line ends": re.compile(r"\r"),
    "control characters": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "byte-order marks": re.compile("\ufeff"),
    "half characters": re.compile("[\ud800-\udfff]"),
}
"""What is mended, by the plural noun under which it is counted."""

_ODD = re.compile("|".join(pattern.pattern for pattern in MENDED.values()))
_LATE_CONTROLS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}  # as browsers read them
_REPLACED: dict[int, str] = {
    **{code: "" for code in (*range(0x20), 0x7F, 0xFEFF) if chr(code) not in "\t\n"},
    ord("\v"): "\n",
    ord("\f"): "\n",
    **_LATE_CONTROLS,
}
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 3, 60, 60, 60


def clean(text: str) -> str:
    """The same text with line ends of one kind, without control characters and byte-order marks, and with `?` for each
    half of a surrogate pair, which no tokenizer and no UTF-8 file takes. A clean text is returned as it is."""
    if _ODD.search(text) is None:
        return text
    whole = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode("utf-8")
    return whole.translate(_REPLACED)


def mended_kinds(text: str) -> list[str]:
    """What `clean` mends in this text."""
    return [kind for kind, pattern in MENDED.items() if pattern.search(text)] if _ODD.search(text) else []


def short(value: Any) -> str:
    """A value as an error message shows it: on one line, however large and deep it is."""
    shown = _SHOWN.repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names as an error message lists them: printable, the first ones only."""
    shown = [
        name if isinstance(name, str) and name.isprintable() and len(name) <= 60 else short(name) for name in names
    ]
    rest = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest or "none"


def reason(error: BaseException) -> str:
    """What a library's error says, on one printable line of bearable length."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = first if first.isprintable() else repr(first)[1:-1]
    return line if len(line) <= 200 else f"{line[:197]}..."
