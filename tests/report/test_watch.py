"""The live page: one visit per token, one browser, one host name, and files that are being written to."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from heed.errors import ConfigError
from heed.report.watch import Watched, app, listen

from .conftest import ppo_row

PORT, TOKEN = 8123, "right"


@pytest.fixture
def client(ppo_run: Path) -> TestClient:
    return TestClient(
        app(Watched(ppo_run, 2.0), TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False
    )


def test_token_is_exchanged_once_for_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient) -> None:
    answer = client.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert "kl/exact" in client.get("/").text
    client.cookies.clear()
    again = client.get("/", params={"token": TOKEN})
    assert (again.status_code, "kl/exact" in again.text) == (403, False)


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
def test_a_stranger_sees_nothing(client: TestClient, query: str) -> None:
    client.cookies.set(f"heed-watch-{PORT}", "guessed")
    answer = client.get(f"/{query}")
    assert (answer.status_code, "kl/exact" in answer.text) == (403, False)


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:8123", 303), ("localhost:8123", 303), ("evil.example", 400)])
def test_only_under_the_names_of_this_machine(client: TestClient, host: str, status: int) -> None:
    assert client.get("/", params={"token": TOKEN}, headers={"Host": host}).status_code == status


def test_nothing_can_be_sent_or_framed(client: TestClient) -> None:
    answer = client.get("/", params={"token": TOKEN})
    assert client.post("/").status_code == 405
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"


def test_page_is_sent_again_only_when_a_file_has_changed(client: TestClient, ppo_run: Path) -> None:
    client.get("/", params={"token": TOKEN})
    first = client.get("/")
    tag = {"If-None-Match": first.headers["etag"]}
    assert client.get("/", headers=tag).status_code == 304
    with (ppo_run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(ppo_row(31, **{"kl/exact": 12.375})) + "\n")
    fresh = client.get("/", headers=tag)
    assert fresh.status_code == 200
    assert "12.38" in fresh.text


def test_a_line_that_is_being_written_is_waited_for(ppo_run: Path) -> None:
    (ppo_run / "run.json").write_text((ppo_run / "run.json").read_text().replace("true", "false"))
    watched, whole = Watched(ppo_run, 2.0), json.dumps(ppo_row(31, **{"kl/exact": 12.375}))
    with (ppo_run / "metrics.jsonl").open("a") as file:
        file.write(whole[:50])
        file.flush()
        half = watched.text()
        file.write(whole[50:] + "\n")
    assert "step 30 of 30" in half
    assert "not whole" not in half
    assert "step 31 of 30" in watched.text()


def test_pages_made_while_a_run_writes_are_all_whole(ppo_run: Path) -> None:
    watched, done = Watched(ppo_run, 2.0), threading.Event()

    def write() -> None:
        with (ppo_run / "metrics.jsonl").open("a") as file:
            for step in range(31, 400):
                row = json.dumps(ppo_row(step)) + "\n"
                for part in (row[:17], row[17:]):
                    file.write(part)
                    file.flush()
                partial = ppo_run / "run.json.partial"
                partial.write_text((ppo_run / "run.json").read_text())
                partial.rename(ppo_run / "run.json")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert watched.text().rstrip().endswith("</html>")
    writer.join()
    assert ">399<" in watched.text()


def test_only_this_machine_can_reach_it_and_a_taken_port_is_told() -> None:
    with listen(0) as listener:
        listener.listen()
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"--port: {port} cannot be had"):
            listen(port)
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
