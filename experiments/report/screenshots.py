"""The pictures of docs/report.md: `python screenshots.py DEMO OUTPUT`, where DEMO is a directory of `heed demo --full`.

Needs Playwright and /usr/bin/chromium.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, sync_playwright

from heed.report.command import write_pages

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE, PAPER, HIGH = 1280, 390, 760, 1100


@contextmanager
def opened(browser: Browser, path: Path, width: int, scheme: str) -> Iterator[Page]:
    """A page at a width, light or dark."""
    context = browser.new_context(viewport={"width": width, "height": HIGH}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    yield page
    context.close()


def shoot(browser: Browser, demo: Path, output: Path, scratch: Path) -> None:
    """Every picture."""
    whole = write_pages([demo])
    compared = write_pages([demo / "exams", demo / "reward"], scratch / "comparison.html")
    for path, name in (
        (whole, "demo-light"),
        (demo / "ppo" / "report.html", "ppo-light"),
        (compared, "comparison-light"),
    ):
        with opened(browser, path, WIDE, "light") as page:
            page.screenshot(path=output / f"{name}.png")
    with opened(browser, whole, WIDE, "light") as page:
        page.locator("#frontier").screenshot(path=output / "frontier.png")
    with opened(browser, whole, PHONE, "light") as page:
        page.screenshot(path=scratch / "phone.png")
    with opened(browser, whole, WIDE, "dark") as page:
        page.screenshot(path=scratch / "dark.png")
    with opened(browser, demo / "ppo" / "report.html", PAPER, "light") as page:
        page.emulate_media(media="print")
        page.screenshot(path=scratch / "print.png")
    side_by_side(
        browser, [scratch / f"{name}.png" for name in ("phone", "dark", "print")], output / "phone-dark-print.png"
    )


def side_by_side(browser: Browser, pictures: list[Path], output: Path) -> None:
    """Pictures of one height in a row."""
    images = "".join(
        f'<img src="{picture.as_uri()}" height="900" style="border:1px solid #ccc">' for picture in pictures
    )
    sheet = pictures[0].with_name("sheet.html")
    style = "margin:0;padding:8px;display:flex;gap:16px;width:max-content;height:max-content"
    sheet.write_text(f'<!doctype html><body style="{style}">{images}', encoding="utf-8")
    with opened(browser, sheet, WIDE, "light") as page:
        page.locator("body").screenshot(path=output)


def main(demo: Path, output: Path) -> None:
    """Write all pictures of a demo into a directory."""
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        shoot(browser, demo, output, Path(scratch))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
