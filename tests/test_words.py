"""The door where text enters."""

from __future__ import annotations

import pytest

from heed.words import clean, listed, mended_kinds, reason, short

MENDED = [
    ("a\r\nb\rc", "a\nb\nc", ["foreign line ends"]),
    ("a\x00b\x1b[2Jc\x7f", "ab[2Jc", ["control characters"]),
    ("page\x0cpage\x0bline", "page\npage\nline", ["control characters"]),
    ("it\x92s \x93so\x94\x81", "it’s “so”", ["control characters"]),  # written in cp1252, read as Latin 1
    ("\ufeffword\ufeff", "word", ["byte-order marks"]),
    ("half \ud83d", "half ?", ["half characters"]),
    ("\r\ufeff\udf52", "\n?", ["foreign line ends", "byte-order marks", "half characters"]),
]


@pytest.mark.parametrize(("text", "expected", "kinds"), MENDED)
def test_what_is_mended(text: str, expected: str, kinds: list[str]) -> None:
    assert clean(text) == expected
    assert mended_kinds(text) == kinds


@pytest.mark.parametrize(
    "text",
    ["", "plain", "tab\tand\nline", "e\u0301 is not é", "zero\u200dwidth", "\u202eright to left", "🍒", "\u2028"],
)
def test_what_people_write_is_left_alone(text: str) -> None:
    assert clean(text) is text
    assert mended_kinds(text) == []


def test_a_value_is_shown_on_one_line() -> None:
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    for value in ("x" * 10**6, deep, {"a": list(range(10**5))}, "\x1b[2J\n", 10**300):
        assert len(short(value)) <= 60
        assert short(value).isprintable()
    assert short({"role": "user"}) == "{'role': 'user'}"


def test_names_are_listed() -> None:
    assert listed(["prompt", "a\nb"]) == "prompt, 'a\\nb'"
    assert listed([]) == "none"
    assert listed(map(str, range(20)), 2) == "0, 1 and 18 more"


def test_the_reason_of_a_library() -> None:
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError("a\x00b")) == "a\\x00b"
    assert reason(KeyError()) == "KeyError"
    assert len(reason(ValueError("x" * 999))) == 200
