"""The page as a person meets it: it asks nobody, hides nothing, covers nothing, and says its values."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from heed.report.command import page_of, pages, write
from heed.report.html import html
from heed.report.watch import Watched, app, listen

from ..conftest import Write, estimate, ppo_row, ppo_settings

MODES = ("light", "dark", "phone")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)"><svg onload=alert(3)>'

OVERLAPPING = """() => {
  const found = [];
  for (const frame of document.querySelectorAll('.frame')) {
    const texts = [...frame.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([a, x], i) => texts.slice(i + 1).forEach(([b, y]) => {
      const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
      const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
      if (wide > 1 && high > 1) found.push(`${frame.closest('.chart').id}: ${a} / ${b}`);
    }));
  }
  return found;
}"""
OUTSIDE = """() => [...document.querySelectorAll('main *')].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && !one.closest('.scroll') && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => `${one.tagName} ${one.className.baseVal ?? one.className} ${one.textContent.slice(0, 40)}`)"""


@pytest.fixture
def page_file(ppo_run: Path) -> Path:
    path = ppo_run / "report.html"
    write(path, html(page_of(ppo_run)))
    return path


@pytest.fixture
def rich_file(ppo_run: Path, write_run: Write, tmp_path: Path) -> Path:
    """A comparison with limits, long names and many labels: the most crowded page that the code can make."""
    rows = [ppo_row(step, **{"policy/clip_fraction": 0.31, "kl/exact": step}) for step in range(1, 27)]
    other = write_run("a-run-with-quite-a-long-name", ppo_settings(kl_coef=0.001, kl_budget=25.5), rows, report={
        "win_rate": estimate(0.125), "score": {"before": estimate(0.0), "after": estimate(0.01)}})  # fmt: skip
    ((path, page),) = pages([ppo_run, other], tmp_path / "comparison.html").items()
    write(path, html(page))
    write(other / "report.html", html(page_of(other)))
    return other / "report.html"


@pytest.mark.parametrize("mode", MODES)
def test_the_page_asks_nobody_and_complains_of_nothing(page_file: Path, opened: Callable[..., Any], mode: str) -> None:
    with opened(page_file, mode) as page:
        page.wait_for_timeout(300)
        assert [address for address in page.asked if not address.startswith("data:")] == [page_file.as_uri()]
        assert page.said == []


@pytest.mark.parametrize("mode", MODES)
def test_no_serious_barrier(rich_file: Path, opened: Callable[..., Any], mode: str) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    for path in (rich_file, rich_file.parents[1] / "comparison.html"):
        with opened(path, mode) as page:
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            page.evaluate(axe)  # through the debugger: the page's own policy lets no other script in
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            worst = [
                (one["id"], one["nodes"][0]["html"][:120], one["nodes"][0]["failureSummary"])
                for one in found["violations"] if one["impact"] in ("serious", "critical")
            ]  # fmt: skip
            assert worst == []


@pytest.mark.parametrize("mode", MODES)
def test_no_text_covers_another_and_nothing_is_beside_the_page(
    rich_file: Path, opened: Callable[..., Any], mode: str
) -> None:
    for path in (rich_file, rich_file.parents[1] / "comparison.html"):
        with opened(path, mode) as page:
            assert page.evaluate(OVERLAPPING) == []
            assert page.evaluate(OUTSIDE) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_overlaps_would_be_seen(page_file: Path, opened: Callable[..., Any]) -> None:
    with opened(page_file) as page:
        page.evaluate("document.querySelectorAll('.x-axis text').forEach((one) => one.setAttribute('x', '5%'))")
        assert page.evaluate(OVERLAPPING)


def test_hover_says_the_value_of_the_file(page_file: Path, opened: Callable[..., Any]) -> None:
    with opened(page_file) as page:
        plot = page.locator("#kl-exact .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 9 / 29, box["y"] + 100)  # the tenth of thirty steps
        told = page.locator(".tip:visible").all_inner_texts()
        assert any(re.search(r"step 10\nkl/exact +2\b", one) for one in told)  # 4·10/20
        assert any(re.search(r"score/mean +0\.5\b", one) for one in told)  # the chart above, at the same step
        page.mouse.move(2, 2)
        assert page.locator(".tip:visible").count() == 0


def test_samples_can_be_searched_and_narrowed(page_file: Path, opened: Callable[..., Any]) -> None:
    with opened(page_file) as page:
        page.get_by_label("Search").fill("what is 20?")
        assert page.locator(".sample:visible").count() == 1
        assert page.locator(".samples output").inner_text() == "1 shown"
        page.get_by_label("Search").fill("")
        page.get_by_label("Show").select_option("worst ten")
        assert page.locator(".sample:visible").count() == 10
        scores = page.locator(".sample:visible .scores").all_inner_texts()
        assert any("−0.4667" in score for score in scores)  # of step 1: 1/30 − 1/2


def test_hostile_texts_do_not_run(write_run: Write, opened: Callable[..., Any]) -> None:
    samples = [{"step": 1, "prompt": HOSTILE, "response": HOSTILE, "score": 1.0, "kl": 0.0, "finished": True}]
    findings = [{"step": 1, "id": HOSTILE, "severity": "error", "message": HOSTILE, "hint": HOSTILE}]
    rows = [ppo_row(1, **{HOSTILE: 1.0}), ppo_row(2, **{HOSTILE: 2.0})]
    path = write_run("ppo", ppo_settings(model=HOSTILE), rows, samples, findings, command=HOSTILE)
    write(path / "report.html", html(page_of(path)))
    with opened(path / "report.html") as page:
        page.locator(".chart .plot").first.hover()
        page.wait_for_timeout(200)
        assert page.said == []
        assert page.locator("main img, main iframe").count() == 0
        assert HOSTILE in page.locator(".prompt").first.inner_text()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_paper_has_everything(page_file: Path, opened: Callable[..., Any], tmp_path: Path, mode: str) -> None:
    pypdf = pytest.importorskip("pypdf")
    with opened(page_file, mode) as page:
        page.emulate_media(media="print", color_scheme=mode)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"
        page.pdf(
            path=str(tmp_path / "page.pdf"),
            format="A4",
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "15mm"),
        )
    told = " ".join(sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "page.pdf").pages)
    words = re.sub(r"\s+", "", told)
    for expected in (
        "Scorebylength",
        "whatis30?",
        "sampling.max_new_tokens",
        "metrics.jsonl",
        "gae_lambda",
        "worstten",
    ):
        assert expected in words


def test_live_page_keeps_what_a_person_opened(ppo_run: Path, opened: Callable[..., Any]) -> None:
    listener: socket.socket = listen(0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(app(Watched(ppo_run, 0.2), "once", port), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        with opened(f"http://127.0.0.1:{port}/?token=once") as page:
            assert page.url == f"http://127.0.0.1:{port}/"
            page.locator("#kl-exact-numbers > summary").click()
            page.get_by_label("Search").fill("what is 20?")
            page.locator("#updates").scroll_into_view_if_needed()
            before = page.locator("#updates").bounding_box()
            with (ppo_run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(ppo_row(31, **{"kl/exact": 12.375})) + "\n")
            page.locator("#kl-exact-numbers", has_text="12.38").wait_for()
            assert page.locator("#kl-exact-numbers").evaluate("one => one.open")
            assert page.get_by_label("Search").input_value() == "what is 20?"
            assert page.locator(".sample:visible").count() == 1
            assert abs(page.locator("#updates").bounding_box()["y"] - before["y"]) < 2
            assert page.evaluate("document.activeElement.type") == "search"
            server.should_exit = True
            page.locator(".live", has_text="not running").wait_for()
            assert [one for one in page.said if "alert" in one] == []
    finally:
        server.should_exit = True
        thread.join()
