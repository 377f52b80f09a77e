"""`heed loop`: labels → reward model → PPO → new tasks; stopped anywhere it goes on to the same end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heed import cli
from heed.errors import ConfigError
from heed.flows import lineage, loop, rounds
from heed.flows.going_on import Step
from heed.flows.rounds import Round, disagreement
from heed.labeling.queue import open_labels
from heed.labeling.store import tasks
from heed.models.checkpoint import open_checkpoint
from heed.settings.loop import LoopSettings

Row = dict[str, Any]
QUIET = "report.html", "timings.jsonl", "run.json", "run.lock", "config.yaml"
WORDS = ["yes", "no", "maybe", "so", "well", "fine"]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answer(source: Path, *more: str) -> None:
    """A simulated labeler who likes it long answers everything, over HTTP."""
    assert cli.main(["label", str(source), "--simulate", "long", "--port", "0", "--no-browser", *more]) == 0


@pytest.fixture(scope="module")
def labeled(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `candidates.jsonl` whose twelve tasks somebody has ranked, and with `prompts.jsonl`."""
    place = tmp_path_factory.mktemp("labeled")
    answers = [[f"{WORDS[(i + k) % 6]}{'!' * (k * 2)}" for k in range(3)] for i in range(12)]
    candidates = [
        {"prompt": f"q{i}", "responses": some, "finished": [True] * 3, "model": str(tiny_directory)}
        for i, some in enumerate(answers)
    ]
    answer(write(place / "candidates.jsonl", candidates))
    write(place / "prompts.jsonl", [{"prompt": f"{'ask' if i % 2 else 'q'} {i}"} for i in range(24)])
    return place


def values(place: Path, **changes: object) -> Row:
    sampling = {"max_new_tokens": 6, "batch": 16}
    adapter: Row = {"lora": {"rank": 4, "alpha": 8}}
    chosen: Row = {
        "run": str(place / "candidates.jsonl"), "once": True, "tasks": 3, "pool": 2, "corrections": 2,
        "reward": {**adapter, "sampling": sampling, "normalise_prompts": 16, "batch": 4, "evaluations": 1,
                   "max_tokens": 40, "validation_share": 0.2, "optimizer": {"learning_rate": 1e-3}},
        "ppo": {**adapter, "sampling": sampling, "prompts": str(place / "prompts.jsonl"), "steps": 3, "batch": 8,
                "minibatch": 8, "microbatch": 8, "critic_warmup": 1, "evaluations": 1, "validation_share": 0.2,
                "optimizer": {"learning_rate": 1e-3}, "hygiene": {"shared_prefix": 0}},
        "sample": {"sampling": sampling, "responses": 3, "hygiene": {"shared_prefix": 0}},
    }  # fmt: skip
    return chosen | changes


def settings(place: Path, **changes: object) -> LoopSettings:
    return LoopSettings.model_validate(values(place, **changes))


def copied(labeled: Path, place: Path) -> Path:
    return Path(shutil.copytree(labeled, place))


@pytest.fixture(scope="module")
def done(labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same place after one round."""
    place = copied(labeled, tmp_path_factory.mktemp("loop") / "place")
    assert loop.run(settings(place)) == place / "candidates.labels" / "loop" / "round-001"
    return place


def round_of(place: Path, number: int = 1) -> Path:
    return place / "candidates.labels" / "loop" / f"round-{number:03d}"


def queued(place: Path) -> list[Any]:
    with closing(open_labels(str(place / "candidates.jsonl"))) as database, database.read() as connection:
        return tasks.read_all(connection)[12:]


# ── a round ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_round_makes_a_policy_and_asks_people_about_its_answers(done: Path) -> None:
    path = round_of(done)
    about = json.loads((path / "round.json").read_text())
    assert (about["round"], about["rankings"]["rows"], about["rankings"]["counted"]) == (1, 12, 12)
    assert about["accuracy"]["n"] > 0 and about["queued"]["chosen"] == 3
    new = queued(done)
    fresh = [task for task in new if len(task.candidates) == 3 or task.candidates[0].model]
    assert [task.prompt[0].content for task in fresh] == [row["prompt"] for row in lines(path / "chosen.jsonl")]
    assert {candidate.model for task in fresh for candidate in task.candidates} == {str(path / "ppo")}
    asked = {row["prompt"] for row in lines(done / "candidates.jsonl")}
    assert not asked & {task.prompt[0].content for task in fresh}, "prompts that nobody was asked about come first"
    wrong = lines(path / "corrections.jsonl")
    assert [[c.text for c in task.candidates] for task in new[3:]] == [row["responses"] for row in wrong]
    assert wrong == lines(path / "scores" / "wrong.jsonl")[:2]


def test_chosen_are_the_prompts_on_which_the_halves_differ_most(done: Path) -> None:
    path = round_of(done)
    first, second = (lines(path / f"scores-{half}" / "scores.jsonl") for half in ("first", "second"))
    assert len(first) == 6 and [row["scores"] for row in first] != [row["scores"] for row in second]
    found = {row["prompt"]: disagreement(row["scores"], b["scores"]) for row, b in zip(first, second, strict=True)
             if len(set(row["responses"])) > 1}  # fmt: skip
    highest = sorted(found, key=lambda prompt: -found[prompt])[:3]
    assert [row["prompt"] for row in lines(path / "chosen.jsonl")] == highest
    for half in ("first", "second"):
        report = json.loads((path / f"reward-{half}" / "checkpoint" / "heed.json").read_text())
        assert (
            report["data"]["rows"]
            < json.loads((path / "reward" / "checkpoint" / "heed.json").read_text())["data"]["rows"]
        )


def test_disagreement_by_hand() -> None:
    assert disagreement([0.0, 1.0, 5.0], [3.0, 4.0, 8.0]) == pytest.approx(0)
    assert disagreement([100.0, 0.0], [0.0, 100.0]) == pytest.approx(1)
    assert disagreement([math.log(3), 0.0], [0.0, 0.0]) == pytest.approx(0.25)
    pairs = abs(0.75 - 0.5) + abs(0.75 - 0.5) + 0
    assert disagreement([math.log(3), 0.0, 0.0], [0.0, 0.0, 0.0]) == pytest.approx(pairs / 3)


def test_every_checkpoint_names_the_rankings_it_came_from(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = round_of(done)
    digest = hashlib.sha256((path / "rankings.jsonl").read_bytes()).hexdigest()
    for name in ("reward", "ppo", "ppo/checkpoint/value"):
        place = path / name if "value" in name else path / name / "checkpoint"
        (came,) = json.loads((place / "heed.json").read_text())["rankings"]
        assert came["sha256"] == digest and came["rows"] > 5 and came["labelers"] == 1
        assert len(came["labeled_by"]) == 1 and "simulated" not in str(came["labeled_by"])
    assert cli.main(["lineage", str(path / "ppo")]) == 0
    told = capsys.readouterr().out
    assert f"sha256 {digest[:16]}" in told and "by 1 labeler (" in told and "against reward (reward)" in told


def test_a_second_round_needs_new_rankings_and_may_go_on_from_the_last_policy(done: Path, tmp_path: Path) -> None:
    place = copied(done, tmp_path / "place")
    with pytest.raises(ConfigError, match="nothing was ranked since round 1"):
        loop.run(settings(place))
    answer(place / "candidates.jsonl")
    loop.run(settings(place, policy="last"))
    second = round_of(place, 2)
    assert json.loads((second / "round.json").read_text())["rankings"]["rows"] == 12 + len(queued(done))
    about = json.loads((second / "ppo" / "checkpoint" / "heed.json").read_text())
    assert [came["rows"] > 5 for came in about["rankings"]] == [True, True], "those of this round, and of the last"
    chain = list(lineage.chain(open_checkpoint(str(second / "ppo"))))
    first = hashlib.sha256((round_of(place) / "rankings.jsonl").read_bytes()).hexdigest()[:16]
    assert any("trained from ppo (ppo)" in line for line in chain)
    assert any(f"sha256 {first}" in line for line in chain), "the chain goes on through the first round"


def test_held_out_labelers_measure_and_do_not_teach(labeled: Path, tmp_path: Path) -> None:
    place = copied(labeled, tmp_path / "place")
    answer(place / "candidates.jsonl", "--reviewers", "2", "--invite", "dora")
    with closing(open_labels(str(place / "candidates.jsonl"))) as database, database.write() as connection:
        connection.exec_driver_sql("UPDATE labelers SET labeler_group = 'held_out' WHERE name = 'dora'")
    path = loop.run(settings(place, tasks=0, corrections=0))
    about = json.loads((path / "reward" / "checkpoint" / "heed.json").read_text())
    assert about["data"]["labelers"] == 1 and json.loads((path / "round.json").read_text())["rankings"]["rows"] == 12
    held_out = lines(path / "scores-held-out" / "scores.jsonl")
    assert len(held_out) == 12
    assert {row["labeler"] for row in held_out}.isdisjoint(row["labeler"] for row in lines(path / "rankings.jsonl"))


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here."""


def left(place: Path) -> dict[str, str]:
    """Hash of every file of the round whose bytes must be the same, with the place's own name taken out."""
    found = {}
    for file in sorted(round_of(place).rglob("*")):
        if file.is_file() and file.name not in QUIET:
            content = file.read_bytes().replace(str(place).encode(), b"PLACE")
            found[str(file.relative_to(place))] = hashlib.sha256(content).hexdigest()
    return found


def test_steps_are_expected_to_take_as_long_as_in_the_round_before(tmp_path: Path) -> None:
    """A run that was not there, or never came to its end, tells nothing."""
    nothing: Any = None
    first, second = (Round(nothing, nothing, tmp_path, number, "sft", "sft") for number in (1, 2))
    for name, seconds in (("reward-first", 3.5), ("reward-second", 4.0), ("ppo", None)):
        (tmp_path / "round-001" / name).mkdir(parents=True)
        (tmp_path / "round-001" / name / "run.json").write_text(json.dumps({"seconds": seconds}))
    assert first.cost(8, "reward-first", "reward-second") == 8
    assert second.cost(8, "reward-first", "reward-second") == 7.5
    assert second.cost(9, "reward-first", "ppo") == 9
    assert second.cost(2, "sample") == 2


def test_killed_at_every_boundary_it_ends_as_if_it_had_not_been(
    labeled: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step, and before it has been noted that the step is over, the process ends; then the loop again.

    The labels change in between, and the round goes on with those that it began with.
    """
    place = copied(labeled, tmp_path / "place")
    steps, wanted = Round.steps, settings(place)
    kills: list[str] = []

    def deadly(this: Round) -> list[Step]:
        def once(step: Step) -> None:
            step.do()
            if step.sentence not in kills:
                kills.append(step.sentence)
                raise Killed

        return [replace(step, do=partial(once, step)) for step in steps(this)]

    monkeypatch.setattr(Round, "steps", deadly)
    ends = 0
    while not (round_of(place) / "round.json").exists():
        with pytest.raises(Killed):
            loop.run(wanted)
        ends += 1
        with closing(open_labels(wanted.run)) as database, database.write() as connection:  # people go on meanwhile
            connection.exec_driver_sql("DELETE FROM rankings WHERE id = (SELECT max(id) FROM rankings)")
    assert ends == len(kills) == 8
    assert left(place) == left(done)
    assert [task.key for task in queued(place)] != [] and len(queued(place)) == len(queued(done))


def test_killed_between_the_queue_and_its_note_nothing_is_queued_twice(done: Path) -> None:
    note, before = round_of(done) / "round.json", len(queued(done))
    told = note.read_text()
    note.unlink()
    loop.run(settings(done))
    assert len(queued(done)) == before and note.read_text() == told


@pytest.mark.slow
def test_sigkill_in_every_stage(labeled: Path, tmp_path: Path) -> None:
    """The real thing, in processes: killed as soon as each of the directories and files appears."""
    import yaml

    whole, place = (copied(labeled, tmp_path / name / "place") for name in ("whole", "killed"))
    for each in (whole, place):
        (each / "loop.yaml").write_text(yaml.safe_dump(values(each)))
    command = [sys.executable, "-m", "heed.cli", "loop"]
    subprocess.run([*command, str(whole / "loop.yaml")], check=True)
    for name in sorted({path.relative_to(round_of(whole)).parts[0] for path in round_of(whole).rglob("*")}):
        process = subprocess.Popen([*command, str(place / "loop.yaml")])
        while process.poll() is None and not (round_of(place) / name).exists():
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (round_of(place) / "round.json").exists():
        subprocess.run([*command, str(place / "loop.yaml")], check=True)
    assert left(place) == left(whole)


# ── waiting, and what is refused ─────────────────────────────────────────────────────────────────────────────────────


def test_it_waits_for_so_many_new_rankings(labeled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([12, 15, 19, 20, 99])
    monkeypatch.setattr(loop.reading, "how_many", lambda _: (0, next(counts), 0))
    slept: list[float] = []
    monkeypatch.setattr(loop.time, "sleep", slept.append)
    with closing(open_labels(str(labeled / "candidates.jsonl"))) as database:
        loop.wait(settings(labeled, once=False, after=20, look_every=7.0), database, tmp_path, 0)
    assert slept == [7.0] * 3 and next(counts) == 99


def test_rounds_says_how_many(labeled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    went: list[int] = []
    monkeypatch.setattr(loop, "wait", lambda *_: None)
    monkeypatch.setattr(loop, "tell", lambda *_: None)
    monkeypatch.setattr(loop, "go_round", lambda this: went.append((this.number, this.start)))
    for policy, starts in (("first", ["m", "m", "m"]), ("last", ["m", "round-001", "round-002"])):
        went.clear()
        loop.run(settings(labeled, once=False, rounds=3, output=str(tmp_path), model="m", policy=policy))
        assert [number for number, _ in went] == [1, 2, 3]
        assert [Path(start).parent.name or start for _, start in went] == starts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "nowhere.jsonl"}, "there are no labels in"),
        ({"ppo": {"steps": 30}}, "no prompts are given"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(labeled: Path, tmp_path: Path, changes: Row, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        loop.run(settings(labeled, output=str(tmp_path / "out"), **changes))
    assert str(caught.value).count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_handful_of_rankings_is_too_few(labeled: Path, tmp_path: Path) -> None:
    place = tmp_path / "few"
    place.mkdir()
    write(place / "candidates.jsonl", lines(labeled / "candidates.jsonl")[:5])
    answer(place / "candidates.jsonl")
    with pytest.raises(ConfigError, match="5 prompts are ranked, and a round needs 8"):
        loop.run(settings(place, ppo={**values(labeled)["ppo"]}))
    assert not (round_of(place) / rounds.ABOUT).exists()
    answer(copied_tasks(place, labeled))
    assert loop.run(settings(place, ppo={**values(labeled)["ppo"]}, tasks=0, corrections=0)) == round_of(place)


def copied_tasks(place: Path, labeled: Path) -> Path:
    """All twelve tasks in the place of the few."""
    return write(place / "candidates.jsonl", lines(labeled / "candidates.jsonl"))


def test_a_loop_has_its_directory_for_itself(labeled: Path, tmp_path: Path) -> None:
    with loop.held(tmp_path / "loop"), pytest.raises(ConfigError):
        loop.run(settings(labeled, output=str(tmp_path / "loop")))
