"""Nothing in a response is hidden from whoever judges it."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from heed.labeling.messages import Piece
from heed.labeling.visible import MOST_ACCENTS, pieces


def test_bidi_marks_and_controls_are_named() -> None:
    assert pieces("ab\u202ecd\x00\x00") == [
        Piece(text="ab"),
        Piece(text="U+202E", mark="RIGHT-TO-LEFT OVERRIDE"),
        Piece(text="cd"),
        Piece(text="U+0000 ×2", mark="NULL ×2"),
    ]


def test_letters_that_take_no_space_are_named() -> None:
    for hidden in (
        "\u200b",
        "\u2060",
        "\ufeff",
        "\u00ad",
        "\u3164",
        "\u2800",
        "\U000e0041",
        "\ue000",
        "\x1b",
        "\u2028",
    ):
        found = pieces(f"a{hidden}b")
        assert [piece.text for piece in found if not piece.mark] == ["a", "b"]
        assert len(found) == 3 and found[1].text == f"U+{ord(hidden):04X}"


def test_writing_is_left_alone() -> None:
    for text in (
        "plain\n\ttext",
        "naïve e\u0301",
        "עברית العربية",
        "हिन्दी क्\u200dष",
        "👩\u200d🚀 1\ufe0f\u20e3 ❤\ufe0f",
        "日本語",
        "",
    ):
        assert "".join(piece.text for piece in pieces(text)) == text
        assert not any(piece.mark for piece in pieces(text))


def test_joiners_that_join_nothing_are_named() -> None:
    for text in ("\u200da", "a\u200db", "a \u200d", "👩\u200d\u200d\u200d"):
        assert any(piece.mark for piece in pieces(text))


def test_ten_thousand_accents_become_one_mark() -> None:
    found = pieces("a" + "\u0301" * 10_000 + "b")
    hidden = 10_000 - MOST_ACCENTS
    assert found == [
        Piece(text="a" + "\u0301" * MOST_ACCENTS),
        Piece(text=f"+{hidden:,}", mark=f"{hidden:,} MORE COMBINING MARKS"),
        Piece(text="b"),
    ]


@given(st.text())
def test_what_is_shown_as_text_is_all_of_it_that_can_be_seen(text: str) -> None:
    shown = "".join(piece.text for piece in pieces(text) if not piece.mark)
    wanted = [c for c in text.replace("\r\n", "\n") if unicodedata.category(c)[0] in "LNPSZ" and c.isprintable()]
    left = iter(shown)
    blanks = set("\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5")
    assert all(c in left for c in wanted if c not in blanks)  # in their order
    assert not any(unicodedata.category(c) in ("Cc", "Co", "Zl", "Zp") and c not in "\n\t" for c in shown)
    assert not any(c in shown for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff")
