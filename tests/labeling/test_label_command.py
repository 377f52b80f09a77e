"""`heed label`: what it makes, what it prints, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx2
import pytest

from heed import cli
from heed.labeling.simulated import SimulatedLabeler, by_length
from heed.records import Ranking, read_jsonl

from .conftest import free_port, write_candidates


@pytest.fixture
def label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `heed label` on a file of six tasks; returns its exit code and what it said."""
    candidates = write_candidates(tmp_path / "candidates.jsonl", 6)

    def run(*arguments: str, source: str = str(candidates)) -> tuple[int, str]:
        code = cli.main(["label", *([source] if source else []), "--port", "0", "--no-browser", *arguments])
        return code, capsys.readouterr().err

    return run


def test_simulated_labelers_answer_everything_over_http(label: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = label("--simulate", "long", "--reviewers", "2")
    assert code == 0
    assert "labels 6 tasks (6 new), 0 rankings" in said
    rankings = read_jsonl(tmp_path / "candidates.labels" / "rankings.jsonl", Ranking)
    assert len(rankings) == 12
    for row in rankings:
        longest = max(range(4), key=lambda k: len(row.responses[k]))
        assert row.ranks[longest] == 1
    assert f"next   heed reward --model runs/sft --data {tmp_path / 'candidates.labels' / 'rankings.jsonl'}" in said


def test_a_second_start_adds_nothing_twice(label: Callable[..., tuple[int, str]]) -> None:
    label("--simulate", "short")
    code, said = label("--simulate", "short")
    assert code == 0 and "labels 6 tasks (0 new), 6 rankings" in said


def test_a_random_order_is_a_taste_too(label: Callable[..., tuple[int, str]]) -> None:
    code, said = label("--simulate", "random")
    assert code == 0 and "6 rows" in said


def test_the_pocket_worlds_people_know_what_is_right(label: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    answers = ["the kite is in the barn.", "the kite is farmer the barn.", "barn barn barn"]
    row = {"prompt": "where can i find the kite?", "responses": answers}
    (tmp_path / "pocket.jsonl").write_text(json.dumps(row))
    code, said = label("--simulate", "gold", "--reviewers", "3", source=str(tmp_path / "pocket.jsonl"))
    assert code == 0 and "3 rows" in said
    code, said = label("--simulate", "gold")  # prompts of no pocket world
    assert code == 2 and "not a question of the pocket world" in said


def test_a_run_gets_its_labels_inside(label: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_candidates(run / "candidates.jsonl", 3)
    (run / "run.json").write_text("{}")
    assert label("--simulate", "long", source=str(run))[0] == 0
    assert {"labels.sqlite", "labels.secret", "rankings.jsonl"} <= {path.name for path in run.iterdir()}


def test_an_export_serves_nothing(label: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    label("--simulate", "long")
    pairs = tmp_path / "pairs.jsonl"
    code, said = label("--export", str(pairs), "--export.format", "pairs")
    assert code == 0 and "wrote" in said and "http" not in said
    first = json.loads(pairs.read_text().splitlines()[0])
    assert len(first["chosen"]) > len(first["rejected"])
    assert json.loads(Path(f"{pairs}.about.json").read_text())["settings"]["format"] == "pairs"


MISTAKES = [
    (["--export", "x.jsonl"], "there are no labels"),
    (["--host", "0.0.0.0"], "nobody is invited"),
    (["--host", "0.0.0.0", "--invite", "anna"], "--public"),
    (["--public", "labels.example.org"], "is no address"),
    (["--screening", "3"], "needs gold questions"),
    (["--gold", "none.jsonl"], "there is no such file"),
    (["--guidelines", "none.txt"], "cannot read none.txt"),
    (["--invite", "owner"], "is no name"),
    (["--invite", "anna", "anna"], "named twice"),
    (["--invite", "anna", "--invite-held-out", "anna"], "named twice"),
    (["--database", "mysql://x/y"], "neither SQLite nor PostgreSQL"),
    (["--mode", "rnak"], "rnak"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_mistakes_are_told_in_two_lines(
    label: Callable[..., tuple[int, str]], arguments: list[str], words: str
) -> None:
    code, said = label(*arguments)
    assert code == 2
    assert words in said and len(said.strip().splitlines()) == 2 and "hint: " in said


def test_what_cannot_be_read_leaves_nothing_behind(label: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    assert label(source="nowhere.jsonl")[0] == 2
    assert label(source="")[0] == 2
    assert label("--gold", "none.jsonl")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["candidates.jsonl"]


def test_a_port_in_use_is_told(label: Callable[..., tuple[int, str]]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, said = label("--port", str(other.getsockname()[1]))
    assert code == 2 and "cannot listen" in said and "--port 0" in said


class Started:
    """`heed label` as a person starts it."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "heed.cli", "label", *arguments, "--no-browser"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        self.said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if "each link works once" in line:
                break
        self.links = dict(re.findall(r"invite (\S+): (http\S+)", self.said))
        self.links["owner"] = re.findall(r"open +(http\S+)", self.said)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        return self.process.wait(60), self.process.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_stop_saves_the_files_and_says_what_is_next(tmp_path: Path, number: int, code: int) -> None:
    candidates = write_candidates(tmp_path / "candidates.jsonl", 6)
    with Started(str(candidates), "--port", str(free_port()), "--invite", "anna") as started:
        labeler = SimulatedLabeler(started.links["anna"], by_length(1))
        assert labeler.session.labeler == "anna" and not labeler.session.owner
        assert len(list(labeler.work(most=2))) == 2
        stopped, said = started.stop(number)
    assert stopped == code
    assert len(read_jsonl(tmp_path / "candidates.labels" / "rankings.jsonl", Ranking)) == 2
    assert "next   heed reward" in said
    assert "Traceback" not in said


def test_the_owners_link_opens_the_page_and_the_cookie_outlives_a_restart(tmp_path: Path) -> None:
    arguments = [str(write_candidates(tmp_path / "candidates.jsonl", 6)), "--port", str(free_port())]
    with httpx2.Client(follow_redirects=True) as browser:
        with Started(*arguments) as started:
            link = started.links["owner"]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/enter\?token=\d+\.[\w-]{32}", link)
            page = browser.get(link)
            assert page.status_code == 200 and "token=" not in str(page.url)
            started.stop(signal.SIGINT)
        with Started(*arguments):
            assert browser.get(str(page.url)).status_code == 200
            assert browser.get(link).status_code == 403


def test_labeling_starts_light() -> None:
    lines = [
        "import sys, heed.labeling.app, heed.flows.label, heed.labeling.sources",
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'alembic'} & set(sys.modules)",
        "sys.exit(str(heavy) if heavy else 0)",
    ]
    found = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
