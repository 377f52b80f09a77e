"""The pictures of docs/report.md, from a demo that lies in a directory:

    heed demo --full && python docs/figures/report.py runs/demo

The frontier is drawn where the demo has one. They are looked at by a person; what can be counted (overlaps, barriers,
requests) tests/report/browser counts.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from heed.report.command import write_pages

HERE = Path(__file__).parent / "report"
WIDE, PHONE, PAPER = (1280, 900), (390, 844), (794, 1123)
PAPER_MARGIN = "document.body.style.margin = '14mm'"  # a screenshot has no pages, whose margin it would be
UNSTUCK = "for (const one of document.querySelectorAll('nav')) one.style.position = 'static'"


def opened(browser: Browser, page: Path, size: tuple[int, int], scheme: str = "light", medium: str = "screen") -> Page:
    """The page in a window of that size."""
    shown = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)  # type: ignore[arg-type]
    shown.goto(page.resolve().as_uri())
    shown.emulate_media(media=medium)  # type: ignore[arg-type]
    if medium == "print":
        shown.evaluate(PAPER_MARGIN)
    shown.evaluate(UNSTUCK)  # a part of a page is taken as a whole, and what sticks to the window would lie over it
    return shown


def beside(parts: list[Path], target: Path) -> None:
    """Pictures of one height side by side, as one; the parts are removed."""
    images = [Image.open(part).convert("RGB") for part in parts]
    height = min(image.height for image in images)
    scaled = [image.resize((round(image.width * height / image.height), height)) for image in images]
    whole = Image.new("RGB", (sum(image.width for image in scaled) + 24 * (len(scaled) - 1), height), "white")
    at = 0
    for image in scaled:
        whole.paste(image, (at, 0))
        at += image.width + 24
    whole.save(target, optimize=True)
    for part in parts:
        part.unlink()


def draw(demo: Path) -> None:
    """Write the pictures."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = write_pages([demo])
        compared = write_pages([demo / "exams", demo / "reward"], HERE / "comparison.part.html")
        opened(browser, page, WIDE).screenshot(path=HERE / "demo-light.png")
        opened(browser, demo / "ppo" / "report.html", WIDE).screenshot(path=HERE / "ppo-light.png")
        opened(browser, compared, WIDE).screenshot(path=HERE / "comparison-light.png")
        compared.unlink()
        if (demo / "best-of-n").exists():
            opened(browser, page, WIDE).locator("#frontier").screenshot(path=HERE / "frontier.png")
        parts = [HERE / f"{name}.part.png" for name in ("phone", "dark", "print")]
        for part, (size, scheme, medium) in zip(
            parts, ((PHONE, "light", "screen"), (WIDE, "dark", "screen"), (PAPER, "light", "print")), strict=True
        ):
            opened(browser, page, size, scheme, medium).screenshot(path=part)
        beside(parts, HERE / "phone-dark-print.png")
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
