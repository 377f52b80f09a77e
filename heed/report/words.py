"""Numbers, durations and strange characters as a person reads them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from heed.report.read import number

DASH = "–"
KEPT = "\n\t"


def short(value: Any) -> str:
    """Four digits with a true minus sign; a dash where there is no number."""
    found = number(value)
    if found is None:
        return DASH
    if found and abs(found) < 1e-3:
        mantissa, _, exponent = f"{found:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−") if exponent else mantissa.replace("-", "−")
    if abs(found) >= 10_000:
        return f"{found:,.0f}".replace("-", "−")
    return f"{found:.4g}".replace("-", "−")


def interval(figure: Mapping[str, Any]) -> str:
    """`0.61 to 0.66`; empty where a figure has none."""
    if number(figure.get("low")) is None or number(figure.get("high")) is None:
        return ""
    return f"{short(figure['low'])} to {short(figure['high'])}"


def rounded(value: float | None, width: float | None) -> str:
    """A value to two digits of the width of its interval: more would be noise. Without a width as `short` has it."""
    if value is None or not width or abs(value) >= 10_000 or width < 1e-4:
        return short(value)
    digits = max(0, 1 - math.floor(math.log10(width)))
    return f"{value:.{min(digits, 3) if abs(value) >= 0.1 else digits}f}".replace("-", "−")


def is_figure(value: Any) -> bool:
    """Whether something in a report is an estimate with its interval and n."""
    return isinstance(value, Mapping) and "estimate" in value and "n" in value


def duration(seconds: float | None) -> str:
    """`3 h 20 min`, `4 min 05 s`, `12.3 s`."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def size(count: float) -> str:
    """Bytes in decimal units, as file managers show them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def visible(text: str) -> str:
    """The text with every character that cannot be seen written out, so that none can hide or turn round the others."""
    return "".join(
        f"‹U+{ord(character):04X}›" if _is_hidden(character) else character for character in text
    )  # fmt: skip


def slug(name: str) -> str:
    """A name as an id in the page."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _is_hidden(character: str) -> bool:
    return character not in KEPT and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers from low to high, steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(place * step, 12) for place in range(first, last + 1)]
    return [low, high]
