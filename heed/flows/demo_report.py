"""The demo judged by the gold score, which no stage has seen: report.json, and what is printed at the end."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from heed.evaluation.printed import print_answers
from heed.formulas import scored_rankings
from heed.formulas.preference import ranking_accuracy
from heed.formulas.statistics import Estimate, bootstrap_difference, bootstrap_mean, wilson, win_rate
from heed.pocket.gold import Judgement, judge
from heed.records import Ranking, Turn, read_jsonl
from heed.settings.demo import DemoSettings
from heed.training.figures import print_figures
from heed.training.files import write_json

SHOWN = 8  # prompts in the printed table


def write_report(root: Path, settings: DemoSettings, started: float) -> dict[str, Any]:
    """Judge the answers of the evaluation, write `report.json` and print the table, the figures and what to try.

    `started` is when the demo did, by `time.perf_counter`: judging counts among its seconds.
    """
    rows = read_lines(root / "evaluate" / "samples.jsonl")
    judged = {name: [judged_row(row, name) for row in rows] for name in rows[0]["responses"]}
    report = {
        **gold_figures(rows, judged, settings.seed),
        **kl_figures(root),
        **reward_figures(root),
        **text_figures(root),
        "candidate_ties": candidate_ties(root),
        "grammatical": {name: share([each.grammatical for each in found]) for name, found in judged.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mb": peak_memory_mb(),
        "seed": settings.seed,
        "commit": read_json(root / "ppo" / "run.json")["commit"],
    }
    write_json(root / "report.json", report)
    write_samples(root, rows, judged)
    show(root, report, rows, judged)
    return report


# --- figures --------------------------------------------------------------------------------------------------------


def judged_row(row: dict[str, Any], name: str) -> Judgement:
    """The gold judgement of one model's answer in a row of the evaluation's samples."""
    return judge((Turn("user", row["prompt"]),), row["responses"][name], row["finished"][name])


def gold_figures(rows: list[dict[str, Any]], judged: dict[str, list[Judgement]], seed: int) -> dict[str, Any]:
    """Win rate against SFT, mean gold score and right answers, all over the same prompts."""
    gold = {name: [each.score for each in found] for name, found in judged.items()}
    right = {name: [float(each.right) for each in found] for name, found in judged.items()}
    trained = [name for name in judged if name.startswith("ppo")]
    families = sorted({row["source"] for row in rows})

    def gain(values: dict[str, list[float]], name: str) -> dict[str, Any]:
        return bootstrap_difference(values[name], values["sft"], seed).as_dict()

    def by_family(name: str) -> dict[str, Any]:
        found = {"all": share(right[name])}
        for family in families:
            of_family = [value for row, value in zip(rows, right[name], strict=True) if row["source"] == family]
            found[family] = share(of_family)
        return found

    return {
        "gold_win_rate": win_rate(gold["ppo"], gold["sft"], seed).as_dict(),
        "gold_win_rates": {name: win_rate(gold[name], gold["sft"], seed).as_dict() for name in trained},
        "gold_score": {name: bootstrap_mean(scores, seed).as_dict() for name, scores in gold.items()},
        "gold_gain": {name: gain(gold, name) for name in trained},
        "right_answers": {name: by_family(name) for name in judged},
        "right_answers_gain": {name: gain(right, name) for name in trained},
    }


def share(values: Sequence[float]) -> dict[str, Any]:
    """The share of ones among zeros and ones, with its Wilson interval."""
    return wilson(sum(values), len(values)).as_dict()


def kl_figures(root: Path) -> dict[str, Any]:
    """The exact KL of the last policy in nats per response, and the smallest that any rollout measured."""
    evaluated = read_json(root / "evaluate" / "report.json")["models"]
    smallest = min(row["kl/exact"] for row in read_lines(root / "ppo" / "metrics.jsonl"))
    found = {name: evaluated[name] for name in ("sft", "ppo", "ppo-ptx") if name in evaluated}
    return {
        "kl_exact": evaluated["ppo"]["kl"]["exact"],
        "kl_exact_min": smallest,
        "kl_exact_by_model": {name: model["kl"]["exact"] for name, model in found.items()},
        "eos_rate": {name: model["eos_rate"] for name, model in found.items()},
        "length": {name: model["length"] for name, model in found.items()},
    }


def reward_figures(root: Path) -> dict[str, Any]:
    """How often the reward model, and the gold score itself, prefer what a labeler preferred, on held-out pairs."""
    rankings = read_jsonl(root / "world" / "held-out-rankings.jsonl", Ranking)
    return {
        "reward_accuracy": read_json(root / "reward" / "report.json")["accuracy"],
        "reward_accuracy_ceiling": accuracy(rankings, gold_scores).as_dict(),
    }


def accuracy(rankings: Sequence[Ranking], scores_of: Callable[[Ranking], list[float]]) -> Estimate:
    """Share of strictly ordered pairs that scores order alike, taken as a reward model's accuracy is: equal scores are
    half right, and every prompt weighs the same, however many people ranked its responses."""
    scores = torch.tensor([score for ranking in rankings for score in scores_of(ranking)])
    ranks = torch.tensor([rank for ranking in rankings for rank in ranking.ranks])
    segments = torch.tensor([i for i, ranking in enumerate(rankings) for _ in ranking.ranks])
    correct, better, _ = ranking_accuracy(scores, ranks, segments)
    prompts = scored_rankings.numbered(ranking.prompt for ranking in rankings)
    return scored_rankings.share(correct, prompts[segments[better]])


def gold_scores(ranking: Ranking) -> list[float]:
    """The gold score of each ranked response."""
    told = zip(ranking.responses, ranking.finished, strict=True)
    return [judge(ranking.prompt, response, finished).score for response, finished in told]


def text_figures(root: Path) -> dict[str, Any]:
    """Nats per token of held-out prose under each model, and the rise over SFT, paired by row: the alignment tax.

    `ptx_recovers` is the share of PPO's rise that PPO-ptx does not have; None where PPO's own is within its interval.
    """
    evaluated = read_json(root / "evaluate" / "report.json")
    rise = {name: found for name, found in evaluated["nats_per_token_rise"].items() if name.startswith("ppo")}
    found = {
        "nats_per_token": {name: model["nats_per_token"] for name, model in evaluated["models"].items()},
        "nats_per_token_rise": rise,
    }
    if "ppo-ptx" in rise:
        certain = rise["ppo"]["low"] > 0
        found["ptx_recovers"] = 1 - rise["ppo-ptx"]["estimate"] / rise["ppo"]["estimate"] if certain else None
    return found


def candidate_ties(root: Path) -> dict[str, Any]:
    """Share of candidate pairs that the gold score cannot tell apart."""
    rankings = read_jsonl(root / "world" / "rankings.jsonl", Ranking)
    sets = {(ranking.prompt, ranking.responses): ranking for ranking in rankings}  # each by several people
    tied, pairs = 0, 0
    for scores in map(gold_scores, sets.values()):
        tied += sum(a == b for a, b in combinations(scores, 2))
        pairs += len(scores) * (len(scores) - 1) // 2
    return wilson(tied, pairs).as_dict()


def peak_memory_mb() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))  # bytes there, kilobytes elsewhere


# --- what is written and shown --------------------------------------------------------------------------------------


def write_samples(root: Path, rows: list[dict[str, Any]], judged: dict[str, list[Judgement]]) -> None:
    """`samples.jsonl`: every evaluation prompt with all answers and their gold judgement."""
    lines = []
    for i, row in enumerate(rows):
        answers = {
            name: {
                "response": row["responses"][name],
                "gold": round(judged[name][i].score, 3),
                "right": judged[name][i].right,
                "grammatical": judged[name][i].grammatical,
            }
            for name in judged
        }
        lines.append(json.dumps({"prompt": row["prompt"], "family": row["source"], "answers": answers}))
    (root / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def show(root: Path, report: dict[str, Any], rows: list[dict[str, Any]], judged: dict[str, list[Judgement]]) -> None:
    """A table of unselected completions, the figures with their intervals, and the next commands."""
    table = [
        {"prompt": row["prompt"]}
        | {name: f"{row['responses'][name]}  [{judged[name][i].score:.1f}]" for name in ("base", "sft", "ppo")}
        for i, row in enumerate(rows[:SHOWN])
    ]
    print_answers(table, "the first held-out questions, [gold score]")
    figures = {
        "gold win rate of PPO over SFT": report["gold_win_rate"],
        "right answers, SFT": report["right_answers"]["sft"]["all"],
        "right answers, PPO": report["right_answers"]["ppo"]["all"],
        "exact KL of PPO from SFT, nats per response": report["kl_exact"],
        "answers that end themselves, PPO": report["eos_rate"]["ppo"],
        "reward model agrees with a labeler": report["reward_accuracy"],
        "the gold order agrees with a labeler": report["reward_accuracy_ceiling"],
    }
    figures |= {f"nats per token of prose, {name}": found for name, found in report["nats_per_token"].items()}
    rises = report["nats_per_token_rise"].items()
    figures |= {f"rise of that over SFT, {name}": found for name, found in rises}
    print_figures(figures, "what the loop did, with 95 % intervals")
    print(f"{report['seconds']:.0f} seconds, {report['peak_memory_mb']} MB at most")
    print(f"\nwrote  {root / 'report.json'}  and all answers in {root / 'samples.jsonl'}")
    print(f"next   heed chat {root / 'sft'} {root / 'ppo'}          talk to both, side by side")
    print(
        f"next   heed label {root / 'sample'}          rank forty sets of answers yourself; then the model follows you:"
    )
    print(f"next   heed loop recipes/pocket/my-taste.yaml --set.demo {root} --once")
    print(f"next   heed best-of-n --model {root / 'sft'} --reward_model {root / 'reward'} --missing_eos.mode replace "
          f"--missing_eos.value 3 --prompts {root}/world/evaluation-prompts.jsonl --output runs/best-of-n")  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of the run."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSONL file of the run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
