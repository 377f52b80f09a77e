"""Which points and curves the frontier takes from the files of which runs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from heed.report.frontier import GOLD, HELD_OUT, PROXY, frontier, near, rooted
from heed.report.read import Run, read_run
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import DataSettings
from heed.settings.evaluate import EvaluateSettings

from .conftest import Write, estimate, ppo_row, ppo_settings

DATA = DataSettings(path="data/prompts.jsonl")


def titles(charts: Any) -> list[str]:
    return [chart.title.lower() for chart in charts]


def lines_of(runs: list[Run], judge: str, gold: dict[str, Any] | None = None) -> dict[str, Any]:
    found = frontier(runs, gold or {})
    assert found is not None
    (chart,) = [chart for chart in found.charts if chart.title.lower().startswith(judge)]
    return {line.name: line for line in chart.lines}


@pytest.fixture
def ppo(write_run: Write) -> Run:
    kl = {1: 0.0, 2: 1.0, 3: 3.0}
    rows = [ppo_row(step, **{"kl/exact": kl[step], "score/mean": step / 4}) for step in kl]
    rows[1] |= {"validation/kl": 1.25, "validation/score": 0.5, "validation/gold": 2.0}
    rows[2] |= {"validation/kl": 3.5, "validation/score": 0.75, "validation/gold": 1.5}
    report = {"score": {"before": estimate(-0.25), "after": estimate(0.75)}}
    return read_run(write_run("ppo", ppo_settings(), rows, report=report))


@pytest.fixture
def best(write_run: Write) -> Run:
    return read_run(best_of_n(write_run, "best", "runs/reward"))


def best_of_n(write_run: Write, name: str, judged_by: str, samples: int = 128) -> Any:
    settings = BestOfNSettings(output=name, model="runs/sft", reward_model=judged_by, prompts=DATA, n=samples)
    curve = [
        {"n": n, "kl_bound": math.log(n) - (n - 1) / n, "score": estimate(0.1 * n), "gold": estimate(0.2 * n)}
        for n in (1, 2, 4)
    ]
    scores = np.random.default_rng(0).normal(size=(20, samples)).round(6)
    rows = [
        {"step": 0, "prompt": f"p{i}", "response": "r", "score": 1.0, "scores": list(row)}
        for i, row in enumerate(scores)
    ]
    return write_run(name, settings, samples=rows, report={"curve": curve, "samples": samples})


def test_ppo_has_its_rollouts_its_evaluations_and_where_it_began(ppo: Run) -> None:
    lines = lines_of([ppo], PROXY)
    assert (list(lines["ppo, its rollouts"].x), list(lines["ppo, its rollouts"].y)) == (
        [0.0, 1.0, 3.0],
        [0.25, 0.5, 0.75],
    )
    held_out = lines["ppo, held-out prompts"]
    assert (list(held_out.x), list(held_out.y)) == ([1.25, 3.5], [0.5, 0.75])
    assert (list(lines["sft"].x), list(lines["sft"].y), list(lines["sft"].low)) == ([0.0], [-0.25], [-0.35])
    gold = lines_of([ppo], GOLD)["ppo, held-out prompts"]
    assert (list(gold.x), list(gold.y)) == ([1.25, 3.5], [2.0, 1.5])


def test_best_of_n_stands_at_the_most_that_choosing_can_cost(best: Run) -> None:
    line = lines_of([best], PROXY)["best (KL at most)"]
    assert list(line.x) == pytest.approx([0.0, math.log(2) - 0.5, math.log(4) - 0.75])
    assert list(line.y) == pytest.approx([0.1, 0.2, 0.4])
    assert list(lines_of([best], GOLD)["best (KL at most)"].y) == pytest.approx([0.2, 0.4, 0.8])


def test_ceiling_is_drawn_from_all_scores_of_a_prompt_and_is_above_best_of_n(best: Run) -> None:
    line = lines_of([best], PROXY)["the ceiling, the best policy at a KL"]
    assert len(line.x) > 8
    assert list(line.x) == sorted(line.x)
    scores = np.array([row["scores"] for row in best.samples])
    of_two = np.sort(scores, axis=1) @ (2 * np.arange(128) / (128 * 127))  # mean of the higher of two
    at = np.interp(math.log(2) - 0.5, line.x, line.y)
    assert at >= of_two.mean()


def test_without_the_scores_or_with_few_of_them_the_page_says_why(write_run: Write) -> None:
    few = read_run(best_of_n(write_run, "few", "runs/reward", samples=16))
    found = frontier([few], {})
    assert found is not None
    assert found.missing == [
        "The attainable ceiling needs samples that are worth 30 a prompt after weighting; few has 16. "
        "Run heed best-of-n with --n 120 to see it."
    ]


def test_an_evaluation_has_a_point_a_model_by_each_judge_and_by_gold(write_run: Write) -> None:
    judges = {"reward": "runs/reward", "other": "runs/other"}
    settings = EvaluateSettings(
        output="e", models={"sft": "runs/sft", "ppo": "runs/ppo"}, reward_models=judges, prompts=DATA
    )
    models = {
        "sft": {"kl": {"exact": estimate(0.0, 0.0)}, "score": {"reward": estimate(0.0), "other": estimate(0.5)}},
        "ppo": {"kl": {"exact": estimate(2.0)}, "score": {"reward": estimate(1.0), "other": estimate(0.25)}},
        "few_shot": {"score": {"reward": estimate(9.0)}},  # it has no KL, so no place
    }
    run = read_run(write_run("e", settings, report={"models": models, "reward_models": judges}))
    gold = {"ppo": estimate(4.0)}
    assert {name: list(line.y) for name, line in lines_of([run], PROXY, gold).items()} == {"sft": [0.0], "ppo": [1.0]}
    assert {name: list(line.y) for name, line in lines_of([run], HELD_OUT, gold).items()} == {
        "sft": [0.5],
        "ppo": [0.25],
    }
    assert {name: list(line.y) for name, line in lines_of([run], GOLD, gold).items()} == {"ppo": [4.0]}


def test_the_best_by_the_score_is_the_best_by_what_is_paid(write_run: Write) -> None:
    """It is the gold score of the policy that PPO strives for."""
    path = best_of_n(write_run, "best", "runs/reward")
    rows = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    for row in rows:
        row["gold_scores"] = [1.0 if score > 0 else 0.0 for score in row["scores"]]
        row["paid_scores"] = [-score for score in row["scores"]]
    (path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = lines_of([read_run(path)], GOLD)["the ceiling, the best by the score"]
    assert line.y[-1] < 0.2 < 0.8 < lines_of([read_run(path)], GOLD)["the ceiling, the best policy at a KL"].y[-1]


def test_two_evaluations_are_told_apart_and_best_of_n_is_placed_at_its_bound(write_run: Write) -> None:
    runs = []
    for name, bound in (("first", 1.25), ("second", 1.5)):
        settings = EvaluateSettings(
            output=name, models={"sft": "s", "ppo": "p"}, reward_models={"reward": "runs/reward"}, prompts=DATA
        )
        models = {
            "sft": {"kl": {"exact": estimate(0.0, 0.0)}, "score": {"reward": estimate(0.0)}},
            "best-of-8": {"kl_bound": bound, "score": {"reward": estimate(2.0)}},
        }
        told = {"models": models, "reward_models": {"reward": "runs/reward"}}
        runs.append(read_run(write_run(name, settings, report=told)))
    found = {name: list(line.x) for name, line in lines_of(runs, PROXY, {}).items()}
    assert found == {
        "sft, first": [0.0], "best-of-8, first": [1.25], "sft, second": [0.0], "best-of-8, second": [1.5],
    }  # fmt: skip


def test_runs_judged_by_another_model_are_left_out_and_named(ppo: Run, write_run: Write) -> None:
    other = read_run(best_of_n(write_run, "other", "runs/another"))
    found = frontier([ppo, other], {})
    assert found is not None
    assert "other was judged by another reward model." in found.missing
    assert not [line for chart in found.charts for line in chart.lines if line.name.startswith("other")]


def test_a_model_has_one_colour_in_all_charts_and_the_root_is_only_another_axis(ppo: Run, best: Run) -> None:
    found = frontier([ppo, best], {})
    assert found is not None
    colours: dict[str, set[int | None]] = {}
    for line in (line for chart in found.charts for line in chart.lines):
        colours.setdefault(line.name, set()).add(line.colour)
    assert all(len(some) == 1 for some in colours.values())
    assert [chart.lines for chart in rooted(found.charts)] == [chart.lines for chart in found.charts]
    assert {chart.scale for chart in rooted(found.charts)} == {"root"}


def test_one_point_is_no_frontier(write_run: Write) -> None:
    assert frontier([read_run(write_run("ppo", ppo_settings(), [ppo_row(1)]))], {}) is None


def test_what_is_far_beyond_is_left_to_the_chart_over_the_root(ppo: Run, write_run: Write) -> None:
    close = frontier([ppo], {})
    assert close is not None and [chart.title for chart in near(close.charts)] == [
        chart.title for chart in close.charts
    ]
    rows = [ppo_row(step, **{"kl/exact": kl, "score/mean": 0.1 * step}) for step, kl in ((1, 0.0), (2, 5.0), (3, 40.0))]
    far = frontier([read_run(write_run("far", ppo_settings(), rows))], {})
    assert far is not None
    (chart,) = near(far.charts)
    assert chart.title.endswith("to 8 nats") and "over √KL" in chart.note
    assert [list(line.x) for line in chart.lines if line.joined] == [[0.0, 5.0]]
    assert [list(line.x) for line in rooted(far.charts)[0].lines if line.joined] == [[0.0, 5.0, 40.0]]


def test_averaged_weights_are_a_point_by_every_judge(write_run: Write) -> None:
    rows = [ppo_row(step, **{"kl/exact": float(step), "score/mean": 0.1 * step}) for step in (1, 2)]
    ema = {"kl": estimate(0.5), "score": {"after": estimate(0.3)}, "gold": {"after": estimate(3.0)}}
    run = read_run(write_run("ppo", ppo_settings(), rows, report={"ema": ema, "gold": {"before": estimate(2.0)}}))
    for judge, value in ((PROXY, 0.3), (GOLD, 3.0)):
        line = lines_of([run], judge)["ppo, averaged weights"]
        assert (list(line.x), list(line.y)) == ([0.5], [value])
    assert list(lines_of([run], GOLD)["sft"].y) == [2.0]
