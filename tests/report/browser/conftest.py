"""A real Chromium, and pages whose every request is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = {"light": 1280, "dark": 1280, "phone": 390}


@pytest.fixture
def opened(chromium: Any) -> Callable[..., Any]:
    """`with opened(address, mode) as page`: what the page asked for is in `page.asked`, what it said in `page.said`."""

    @contextmanager
    def open_page(address: str | Path, mode: str = "light") -> Iterator[Any]:
        scheme = "dark" if mode == "dark" else "light"
        context = chromium.new_context(viewport={"width": WIDTHS[mode], "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        yield page
        context.close()

    return open_page
