"""The demo from end to end with everything cut small: every file is there and every figure has its interval."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from heed import cli
from heed.errors import ConfigError
from heed.flows import demo, demo_report, demo_settings
from heed.pocket.labelers import LABELERS
from heed.records import Candidates, Dialogue, Prompt, Ranking, Turn, read_jsonl
from heed.settings.demo import DemoSettings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "TOKENS": 60_000, "DEMONSTRATIONS": 300, "EXAMS": 200, "RANKING_PROMPTS": 90, "PPO_PROMPTS": 60,
            "EVALUATION_PROMPTS": 40,
        }.items():  # fmt: skip
            patch.setattr(demo, name, value)
        patch.setattr(demo_settings, "PPO_STEPS", 4)
        patch.setattr(demo_settings, "LONG_STEPS", 4)
        patch.setattr(demo_settings, "MOST", 8)
        patch.setattr(demo_settings, "OVER_STEPS", 4)
        return demo.run(DemoSettings(output=str(tmp_path_factory.mktemp("demo") / "run"), full=True))


def test_report_has_every_figure_with_its_interval(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    estimates = [
        report["gold_win_rate"], report["kl_exact"], report["reward_accuracy"], report["reward_accuracy_ceiling"],
        *report["right_answers"]["sft"].values(), *report["right_answers"]["ppo"].values(),
        *(report["nats_per_token"][name] for name in ("base", "sft", "ppo", "ppo-ptx")),
        *(report["nats_per_token_rise"][name] for name in ("ppo", "ppo-ptx")),
    ]  # fmt: skip
    for found in estimates:
        assert set(found) == {"estimate", "low", "high", "n"}
        assert found["low"] <= found["estimate"] <= found["high"] and found["n"] > 0
    assert "all" in report["right_answers"]["sft"] and len(report["right_answers"]["sft"]) > 12
    assert report["gold_win_rate"]["n"] == 40
    assert report["kl_exact_min"] >= -1e-4
    assert report["seed"] == 0 and report["seconds"] > 0 and 100 < report["peak_memory_mb"] < 4000


def test_every_stage_left_its_run_and_every_file_reads_back(finished: Path) -> None:
    for stage in ("pretrain", "sft", "exams", "reward", "ppo", "ppo-ptx"):
        assert (finished / stage / "checkpoint").is_dir(), stage
    assert (finished / "ppo-ptx" / "checkpoint" / "ema" / "adapter_model.safetensors").is_file()
    candidates = read_jsonl(finished / "sample" / "candidates.jsonl", Candidates)
    assert len(candidates) == 90 and all(len(row.responses) == 4 for row in candidates)
    rankings = read_jsonl(finished / "world" / "rankings.jsonl", Ranking)
    held_out = read_jsonl(finished / "world" / "held-out-rankings.jsonl", Ranking)
    assert not {row.group for row in rankings} & {row.group for row in held_out}
    assert {row.group for row in rankings} | {row.group for row in held_out} == {row.group for row in candidates}
    ranked_by: dict[str, dict[Dialogue, list[str]]] = {"training": defaultdict(list), "held-out": defaultdict(list)}
    for part, rows in (("training", rankings), ("held-out", held_out)):
        for row in rows:
            ranked_by[part][row.prompt].append(row.labeler)
    assert len(ranked_by["held-out"]) > 5
    everybody = {labeler.name for labeler in LABELERS}
    assert all(set(people) == everybody and len(people) == 5 for people in ranked_by["held-out"].values())
    assert all(set(people) < everybody and len(people) == 3 for people in ranked_by["training"].values())
    report = json.loads((finished / "report.json").read_text())
    assert report["candidate_ties"]["n"] == 6 * len(ranked_by["training"])  # each set once, whoever ranked it
    assert 0 < report["reward_accuracy"]["n"] <= len(ranked_by["held-out"])
    assert report["reward_accuracy_ceiling"]["n"] == report["reward_accuracy"]["n"]
    assert len((finished / "samples.jsonl").read_text().splitlines()) == 40


def test_evaluation_shares_no_prompt_with_training(finished: Path) -> None:
    files = ["demonstrations", "ranking-prompts", "evaluation-prompts"]
    asked = [
        {json.loads(line)["prompt"] for line in (finished / "world" / f"{name}.jsonl").read_text().splitlines()}
        for name in files
    ]
    assert all(not a & b for a, b in [*pairwise(asked), (asked[0], asked[2])])
    assert read_jsonl(finished / "world" / "evaluation-prompts.jsonl", Prompt)[0].reference


def test_the_reward_model_goes_on_from_the_exams(finished: Path) -> None:
    place, asked = demo_settings.Place(finished), DemoSettings(output=str(finished))
    assert demo_settings.reward_settings(place, asked).start_from == str(finished / "exams")
    assert demo_settings.exam_settings(place, asked).start_from == ""
    assert json.loads((finished / "exams" / "report.json").read_text())["accuracy"]["n"] > 5


def test_the_quickstart_on_a_demo(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}heed (.*)$", page.partition("## gpt2")[0], re.MULTILINE)
    demo_line, *after = [line.partition(" #")[0].split() for line in lines]
    assert demo_line == ["demo", "--output", "runs/demo"] and len(after) == 3
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    for words in after:
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/quit\n"))
        assert cli.main(words) == 0, words
    assert "ppo>" in capsys.readouterr().out
    assert (tmp_path / "exported" / "model.safetensors").is_file()


def test_accuracy_of_scores_against_ranks_by_hand() -> None:
    """Pairs of ranks (1, 2, 2): a above b, a above c; b and c are tied and do not count."""
    ranking = Ranking((Turn("user", "q"),), ("a", "b", "c"), (1, 2, 2), (True, True, True))
    found = demo_report.accuracy([ranking], lambda _: [1.0, 1.0, 0.0])  # a = b is half right, a > c is right
    assert found.estimate == pytest.approx(0.75) and found.n == 1
    assert demo_report.accuracy([ranking], lambda _: [0.0, 1.0, 2.0]).estimate == 0
    again = replace(ranking, ranks=(2, 1, 2))  # another person: b above a is half right, b above c is right
    twice = demo_report.accuracy([ranking, again], lambda _: [1.0, 1.0, 0.0])
    assert twice.estimate == pytest.approx(0.75) and twice.n == 1


def test_a_demo_is_not_overwritten_unasked(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a demo"):
        demo.run(DemoSettings(output=str(finished)))
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not a demo's"):
        demo.run(DemoSettings(output=str(tmp_path), overwrite=True))


def test_a_stopped_demo_goes_on_in_the_stage_where_it_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last stage is taken away, and one before it is stopped half-way: the others are left as they are."""
    shutil.copytree(finished, tmp_path / "demo")
    for name in ("evaluate", "best-of-n"):
        shutil.rmtree(tmp_path / "demo" / name)
    (tmp_path / "demo" / "report.json").unlink()
    kept = (finished / "ppo" / "run.json").stat().st_mtime_ns
    asked: list[str] = []
    for stage in (demo.pretrain, demo.sft, demo.sample, demo.reward, demo.ppo, demo.best_of_n, demo.evaluate):
        monkeypatch.setattr(stage, "run", lambda settings: asked.append(Path(settings.output).name))
    monkeypatch.setattr(demo, "write_report", lambda *_: None)
    monkeypatch.setattr(demo, "write_world", lambda *_: None)
    monkeypatch.setattr(demo, "label", lambda *_: None)
    with pytest.raises(ConfigError, match="or go on with it: heed resume"):
        demo.run(DemoSettings(output=str(tmp_path / "demo"), full=True))
    demo.run(DemoSettings(output=str(tmp_path / "demo"), full=True, resume=True))
    assert asked == ["best-of-n", "evaluate"]
    assert (finished / "ppo" / "run.json").stat().st_mtime_ns == kept
