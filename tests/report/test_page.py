"""What a page says against the numbers in the files, and what it must never do."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heed.doctor import health
from heed.report import course
from heed.report.command import page_of
from heed.report.html import html

from .conftest import Write, estimate, ppo_row, ppo_settings

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202egnp.exe\x1b[31m</textarea>&lt;b&gt;'


class Tree(HTMLParser):
    """Tags with their attributes, and the text of every element that is asked for by its class or id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def rows_of(text: str, id: str) -> list[list[str]]:
    """The cells of the table in the element with an id."""
    part = text.partition(f'id="{id}"')[2].partition("</table>")[0]
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)]


def test_header_and_figures_are_those_of_the_files(ppo_run: Path) -> None:
    texts = " ".join(Tree(html(page_of(ppo_run))).texts)
    for words in ("0123456789ab", "2 min 05 s", "A CPU, Linux, 2 threads", "prompts.jsonl", "2026-11-28 12:00:00 UTC"):
        assert words in texts
    assert "Held-out prompts gained 0.75 in score (0.65 to 0.85, n = 50)" in texts
    assert "All 2 tests of the KL measurement that were made passed. 1 could not be made." in texts


def test_the_table_beneath_a_chart_has_the_numbers_of_the_rows(ppo_run: Path) -> None:
    heading, *rows = rows_of(html(page_of(ppo_run)), "kl-exact-numbers")
    assert heading == ["step", "kl/exact", "kl/k1"]
    by_step = {row[0]: row for row in rows}
    assert by_step["10"][1] == "2"  # 4·10/20
    assert by_step["30"][1] == "3"  # 4·30/40
    assert by_step["1"][2] == "0.4478 (0.05579 to 0.8398)"  # 4/11 + 0.1·sin 1 ± 1.96·0.2


def test_score_band_is_its_standard_error(ppo_run: Path) -> None:
    rows = rows_of(html(page_of(ppo_run)), "score-mean-numbers")
    assert rows[-1][1] == "0.75 (0.358 to 1.142)"  # 30/40 ± 1.96·0.8/√16


def test_a_gap_is_a_dash_in_the_table_and_a_break_in_the_line(write_run: Write) -> None:
    rows = [ppo_row(step, **({"kl/exact": None} if step == 3 else {})) for step in range(1, 6)]
    text = html(page_of(write_run("ppo", ppo_settings(), rows)))
    assert rows_of(text, "kl-exact-numbers")[3][1] == "–"
    (drawn,) = re.findall(r'data-name="kl/exact" d="([^"]*)"', text)
    assert drawn.count("M") == 2  # two strokes
    assert drawn.count("L") == 2


def test_limits_are_the_doctors() -> None:
    assert (course.CLIPPED, course.DRIFTED, course.FARTHEST) == (health.CLIPPED, health.DRIFTED, health.FARTHEST)


def test_two_thousand_steps_are_under_a_megabyte_and_keep_the_spike(write_run: Write) -> None:
    rows = [ppo_row(step, **({"kl/exact": 97.25} if step == 1234 else {})) for step in range(1, 2001)]
    samples = [
        {"step": step, "prompt": "p " * 100, "response": "r " * 200, "score": step / 1000, "kl": 1.0, "finished": True}
        for step in range(1, 2001) for _ in range(4)
    ]  # fmt: skip
    path = write_run("ppo", ppo_settings(steps=2000), rows, samples)
    text = html(page_of(path))
    assert len(text.encode()) < 1_000_000
    for drawn in re.findall(r' d="([^"]*)"', text):
        assert len(re.findall(r"[ML]", drawn)) <= 1000  # a grid has a few, a line 400, a band there and back 800
    (spike,) = [row for row in rows_of(text, "kl-exact-numbers") if row[0] == "1234"]
    assert spike[1] == "97.25"


def test_everything_that_was_logged_is_shown(write_run: Write) -> None:
    rows = [ppo_row(step, **{"new/metric": step / 8}) for step in (1, 2, 3)]
    text = html(page_of(write_run("ppo", ppo_settings(), rows)))
    assert rows_of(text, "new-metric-numbers")[3] == ["3", "0.375"]


def test_hostile_texts_are_texts(write_run: Write) -> None:
    samples = [{"step": 1, "prompt": HOSTILE, "response": HOSTILE, "score": 1.0, "kl": 0.0, "finished": True}]
    findings = [{"step": 1, "id": HOSTILE, "severity": "warning", "message": HOSTILE, "hint": HOSTILE}]
    rows = [ppo_row(1, **{HOSTILE: 1.0}), ppo_row(2, **{HOSTILE: 2.0})]
    path = write_run("ppo", ppo_settings(model=HOSTILE), rows, samples, findings, command=HOSTILE, commit=HOSTILE)
    text = html(page_of(path))
    tree = Tree(text)
    assert [tag for tag, _ in tree.tags].count("script") == 1
    assert not [tag for tag, _ in tree.tags if tag in ("img", "iframe", "object", "form", "textarea", "base")]
    assert not [name for _, attributes in tree.tags for name in attributes if name.startswith("on")]
    assert "‹U+202E›gnp.exe‹U+001B›[31m" in " ".join(tree.texts)
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_policy_allows_our_style_and_script_and_nothing_else(ppo_run: Path) -> None:
    text = html(page_of(ppo_run))
    tree = Tree(text)
    (policy,) = [about["content"] for tag, about in tree.tags if about.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules: dict[str, Any] = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not [about for _, about in tree.tags if "style" in about]  # the policy would not apply them


def test_nothing_is_fetched(ppo_run: Path) -> None:
    addresses = [
        value or "" for _, about in Tree(html(page_of(ppo_run))).tags for name, value in about.items()
        if name in ("src", "href", "action", "data", "poster", "srcset")
    ]  # fmt: skip
    assert addresses
    assert all(address.startswith("#") or address == "data:," for address in addresses)


def test_settings_that_were_chosen_come_first_with_their_defaults(ppo_run: Path) -> None:
    text = html(page_of(ppo_run))
    chosen = rows_of(text, "settings-1")
    assert [re.sub("<.*?>", "", cell) for cell in next(row for row in chosen if row[0] == "batch")][:3] == [
        "batch",
        "16",
        "64",
    ]
    assert not [row for row in chosen if row[0] == "gamma"]
    assert next(row for row in rows_of(text, "settings-2") if row[0] == "gamma")[1] == "1.0"


@pytest.mark.parametrize(
    ("report", "words", "level"),
    [
        ({"score": {"difference": estimate(0.05)}}, "Perhaps nothing was gained", "warning"),
        ({"score": {"difference": estimate(-0.5)}}, "The policy became worse", "grave"),
        ({"score": {"difference": estimate(0.5)}}, "Held-out prompts gained", "good"),
        ({"doctor": {"tests": {"T6": "failed", "T7": "passed"}}}, "tests failed: T6", "grave"),
    ],
)
def test_health_says_what_the_figures_say(write_run: Write, report: dict[str, Any], words: str, level: str) -> None:
    page = page_of(write_run("ppo", ppo_settings(), [ppo_row(1), ppo_row(2)], report=report))
    assert [note.level for note in page.notes if words in note.sentence] == [level]
    assert page.level == min((note.level for note in page.notes), key=("grave", "warning", "good", "told").index)


@pytest.mark.parametrize(
    ("severities", "level"), [(("warning", "warning"), "warning"), (("warning", "error"), "grave"), ((), "grave")]
)
def test_a_failed_test_is_as_grave_as_what_it_found(write_run: Write, severities: tuple[str, ...], level: str) -> None:
    findings = [
        {"step": step, "id": "NK16", "severity": severity, "message": "m", "hint": "h", "evidence": {"test": "T2"}}
        for step, severity in enumerate(severities, start=1)
    ]
    other = {"step": 1, "id": "H5", "severity": "error", "message": "m", "hint": "h", "evidence": {}}
    tests = {"T2": "failed", "T3": "passed"}
    page = page_of(
        write_run("ppo", ppo_settings(), [ppo_row(1)], findings=[*findings, other], report={"doctor": {"tests": tests}})
    )
    assert [note.level for note in page.notes if "doctor's tests" in note.sentence] == [level]


def test_findings_are_told_once_with_their_count_and_what_to_do(write_run: Write) -> None:
    findings = [
        {"step": step, "id": "H5", "severity": "warning", "message": f"KL {step} nats", "hint": "raise kl_coef"}
        for step in (4, 5, 9)
    ]
    page = page_of(write_run("ppo", ppo_settings(), [ppo_row(1)], findings=findings))
    (told,) = [note for note in page.notes if note.where]
    assert (told.level, told.sentence, told.todo) == ("warning", "KL 9 nats", "raise kl_coef")
    assert told.where == "H5, 3 times, steps 4 to 9"


def test_alarm_of_over_optimisation(write_run: Write) -> None:
    gold = {5: 1.0, 10: 2.0, 15: 1.5, 20: 0.9, 25: 0.2}
    rows = [
        ppo_row(step, **({"validation/gold": gold[step], "validation/score": step / 25} if step in gold else {}))
        for step in range(1, 26)
    ]
    page = page_of(write_run("ppo", ppo_settings(), rows))
    (alarm,) = [note for note in page.notes if note.where == "alarm"]
    assert alarm.sentence.startswith("Over-optimised since step 20")
    assert "step 10" in alarm.todo
