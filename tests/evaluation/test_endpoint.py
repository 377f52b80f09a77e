"""A judge behind an OpenAI-compatible address, by a stand-in on this machine that really speaks HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heed.errors import ConfigError
from heed.evaluation import endpoint
from heed.evaluation.endpoint import Endpoint, Judgements, key_of, verdict
from heed.records import Turn

PROMPTS = [(Turn("user", f"q{i}"),) for i in range(4)]


class StandIn(ThreadingHTTPServer):
    """Prefers the answer with more `!`; `script` holds statuses or bodies for the next requests instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[int | str] = []
        self.always = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        self.server.asked.append(body)
        self.server.headers.append(dict(self.headers))
        told = self.server.script.pop(0) if self.server.script else 200
        if isinstance(told, int) and told != 200:
            self.reply(told, "no")
            return
        first, second = (part.partition("\n\n")[2] for part in body["messages"][1]["content"].split("\n\nAnswer ")[1:])
        a, b = first.count("!"), second.count("!")
        word = self.server.always or ("A" if a > b else "B" if b > a else "tie")
        content = {"choices": [{"message": {"role": "assistant", "content": f"Because.\n\n**{word}**"}}]}
        self.reply(200, told if isinstance(told, str) else json.dumps(content))

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(endpoint, "PAUSE", 0.001)
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def outcomes(server: StandIn, path: Path, ours: list[str], theirs: list[str]) -> list[float | None]:
    with httpx2.Client() as client:
        return Judgements(Endpoint(server.url, "m", "secret"), path).outcomes(
            PROMPTS[: len(ours)], ours, theirs, client
        )  # fmt: skip


def test_every_pair_is_judged_in_both_orders(server: StandIn, tmp_path: Path) -> None:
    assert outcomes(server, tmp_path, ["x!", "x", "x", "same"], ["y", "y!", "y", "same"]) == [1.0, 0.0, 0.5, 0.5]
    assert len(server.asked) == 6  # the equal answers are not asked about
    shown = [body["messages"][1]["content"] for body in server.asked[:2]]
    assert "user: q0" in shown[0]
    assert shown[0].index("x!") < shown[0].index("Answer B") < shown[0].index("y", shown[0].index("Answer B"))
    assert shown[1].endswith("Answer B:\n\nx!")
    assert {(body["model"], body["temperature"]) for body in server.asked} == {("m", 0)}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


def test_a_judge_that_only_likes_the_first_place_decides_nothing(server: StandIn, tmp_path: Path) -> None:
    server.always = "A"
    assert outcomes(server, tmp_path, ["x", "x!"], ["y", "y"]) == [0.5, 0.5]


def test_raw_answers_are_kept_and_asked_once(server: StandIn, tmp_path: Path) -> None:
    first = outcomes(server, tmp_path, ["x!", "x"], ["y", "y!"])
    file = tmp_path / "judgements.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["judge"], row["a"], row["b"]) for row in rows] == [
        ("m", "x!", "y"), ("m", "y", "x!"), ("m", "x", "y!"), ("m", "y!", "x"),
    ]  # fmt: skip
    assert rows[0]["answer"] == "Because.\n\n**A**"
    file.write_bytes(file.read_bytes()[:-20])  # a process was killed while it wrote
    assert outcomes(server, tmp_path, ["x!", "x"], ["y", "y!"]) == first
    assert len(server.asked) == 5
    assert len(file.read_text().splitlines()) == 4


def test_what_cannot_be_read_counts_for_nobody(server: StandIn, tmp_path: Path) -> None:
    server.always = "both are fine"
    assert outcomes(server, tmp_path, ["x!"], ["y"]) == [None]


@pytest.mark.parametrize(
    ("answer", "value"),
    [("A", 1.0), ("I say\nb.", 0.0), ("…\nVerdict: tie\n", 0.5), ("**A**", 1.0), ("A is better", None), ("", None)],
)
def test_the_last_line_is_the_verdict(answer: str, value: float | None) -> None:
    assert verdict(answer) == value


def test_a_busy_server_is_asked_again(server: StandIn, tmp_path: Path) -> None:
    server.script = [429, 503]
    assert outcomes(server, tmp_path, ["x!"], ["y"]) == [1.0]
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([401], "status 401: no\nhint: put the key into the environment variable that `endpoint.key` names"),
        ([404], "status 404: no\nhint: check endpoint.url"),
        (["<html>"], "answered no JSON"),
        (["[]"], "answered in another form: []"),
        ([500] * 4, "no answer after 4 tries (status 500)"),
    ],
)
def test_what_is_wrong_is_two_lines(script: list[int | str], told: str, server: StandIn, tmp_path: Path) -> None:
    server.script = script
    with pytest.raises(ConfigError) as error:
        outcomes(server, tmp_path, ["x!"], ["y"])
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 2
    assert "secret" not in str(error.value)


def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    with httpx2.Client() as client, pytest.raises(ConfigError, match="no answer after 4 tries"):
        Judgements(Endpoint("http://127.0.0.1:9/v1", "m", ""), tmp_path).outcomes(PROMPTS[:1], ["x"], ["y"], client)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    assert (key_of("SOME_KEY"), key_of("ANOTHER_KEY"), key_of("")) == ("k", "", "")
