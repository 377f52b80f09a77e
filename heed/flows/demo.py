"""The whole loop from nothing, on the pocket world: a model that learns to answer, labelers who disagree, PPO.

Every stage is the one that `heed STAGE` runs, with settings for a model of less than a million weights; what one stage
hands the next lies in files under the demo's directory.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from heed.data.hygiene import split_by_group
from heed.flows.demo_report import write_report
from heed.flows.demo_settings import (
    Place,
    best_of_n_settings,
    evaluate_settings,
    exam_settings,
    judge_settings,
    long_settings,
    over_settings,
    ppo_settings,
    pretrain_settings,
    ptx_settings,
    reward_settings,
    sample_settings,
    sft_settings,
)
from heed.flows.going_on import Step, go, walk
from heed.flows.place import claim
from heed.pocket.exams import exams
from heed.pocket.generate import demonstrations, evaluation_prompts, ppo_prompts, ranking_prompts
from heed.pocket.labelers import LABELERS, degenerate, simulate
from heed.pocket.prose import pretraining_text
from heed.records import Candidates, read_jsonl, write_jsonl
from heed.settings.demo import DemoSettings
from heed.stages import best_of_n, evaluate, ppo, pretrain, reward, sample, sft

log = logging.getLogger("heed")

TOKENS = 3_400_000  # of prose
DEMONSTRATIONS, EXAMS, RANKING_PROMPTS, PPO_PROMPTS, EVALUATION_PROMPTS = 8000, 8000, 7000, 2000, 600
HELD_OUT_SHARE = 0.2  # of the sets of candidates, by group
PEOPLE = 3  # who rank a set of candidates to learn from; a held-out set is ranked by everybody


def run(settings: DemoSettings) -> Path:
    """Generate the world, run every stage, judge the result by the gold score, and write report.json."""
    place, started = Place(Path(settings.output).expanduser()), time.perf_counter()
    claim(place.root, settings, "demo", "world", settings.seed)
    (place.root / "world").mkdir(exist_ok=True)
    torch.set_num_threads(1)  # products this small: two threads took three times as long as one, waiting for each other
    walk(steps(place, settings))
    write_report(place.root, settings, started)
    return place.root


def steps(place: Place, settings: DemoSettings) -> list[Step]:
    """What happens, in order. Costs are the seconds of a run on two cores: only their shares matter."""
    return [
        Step(
            "A little world is written down: prose about it, questions, and answers by people of mixed care.",
            lambda: write_world(place, settings.seed), 4,
        ),
        Step(
            "A small transformer learns the language of that world from prose alone (pretrain).",
            lambda: go(pretrain.run, pretrain_settings(place, settings)), 91,
        ),
        Step(
            "It learns to answer from demonstrations, of which three in ten are wrong (sft).",
            lambda: go(sft.run, sft_settings(place, settings)), 8,
        ),
        Step(
            "It answers each of some new questions four times (sample).",
            lambda: go(sample.run, sample_settings(place, settings)), 7,
        ),
        Step(
            "Five simulated labelers, who often disagree, rank the four answers (label).",
            lambda: label(place, settings.seed), 2,
        ),
        Step(
            "A reward model first passes exams about other questions: which answer is right (reward).",
            lambda: go(reward.run, exam_settings(place, settings)), 23,
        ),
        Step(
            "It goes on to learn which answer the labelers would prefer (reward).",
            lambda: go(reward.run, reward_settings(place, settings)), 30,
        ),
        Step(
            "PPO changes the model towards answers that the reward model scores higher (ppo).",
            lambda: go(ppo.run, ppo_settings(place, settings)), 23,
        ),
        *(frontier_steps(place, settings) if settings.full else []),
        Step(
            "Base, SFT and PPO answer questions about things that none of them was asked about (evaluate).",
            lambda: go(evaluate.run, evaluate_settings(place, settings)), 20 if settings.full else 7,
        ),
    ]  # fmt: skip


def frontier_steps(place: Place, settings: DemoSettings) -> list[Step]:
    """What `--full` adds: everything else that stands between score and KL."""
    return [
        Step(
            "The same PPO with pretraining text mixed in and averaged weights (PPO-ptx).",
            lambda: go(ppo.run, ptx_settings(place, settings)), 33,
        ),
        Step(
            "A second reward model, of the held-out rankings alone: a judge that nobody is paid by (reward).",
            lambda: go(reward.run, judge_settings(place, settings)), 15,
        ),
        Step(
            "For comparison, the best of up to 128 answers of the SFT model (best-of-n).",
            lambda: go(best_of_n.run, best_of_n_settings(place, settings)), 82,
        ),
        Step(
            "The first PPO again, for twice as many steps (ppo).",
            lambda: go(ppo.run, long_settings(place, settings)), 100,
        ),
        Step(
            "PPO without a price on KL, to see the reward model being fooled (ppo).",
            lambda: go(ppo.run, over_settings(place, settings)), 83,
        ),
    ]  # fmt: skip


# --- files ----------------------------------------------------------------------------------------------------------


def write_world(place: Place, seed: int) -> None:
    """Texts and questions; no operand is shared between demonstrations, rankings and evaluation."""
    *documents, last = pretraining_text(seed, TOKENS)
    held_out = pretraining_text(seed + 1_000_000, 20_000)
    Path(place.file("text.txt")).write_text("<|endoftext|>".join([*documents, last]), encoding="utf-8")
    Path(place.file("held-out-text.txt")).write_text("<|endoftext|>".join(held_out), encoding="utf-8")
    rows = {
        "demonstrations": demonstrations(seed, DEMONSTRATIONS),
        "exams": exams(seed, EXAMS),
        "ranking-prompts": ranking_prompts(seed, RANKING_PROMPTS),
        "ppo-prompts": ppo_prompts(seed, PPO_PROMPTS),
        "evaluation-prompts": evaluation_prompts(seed, EVALUATION_PROMPTS),
    }
    for name, records in rows.items():
        write_jsonl(Path(place.file(f"{name}.jsonl")), records)
        log.info("%s  %d rows", place.file(f"{name}.jsonl"), len(records))


def label(place: Place, seed: int) -> None:
    """Rank the candidates; some sets get truncated and broken answers first, which PPO will meet too.

    Three of the five labelers rank each set to learn from, all of them each held-out set: what is learned and what is
    measured is then less a matter of who happened to rank what.
    """
    candidates = degenerate(read_jsonl(Path(place.run("sample"), "candidates.jsonl"), Candidates), seed)
    kept, held_out = split_by_group(candidates, HELD_OUT_SHARE, seed)
    write_jsonl(Path(place.file("held-out-rankings.jsonl")), simulate(held_out, seed + 1_000_000, len(LABELERS)))
    write_jsonl(Path(place.file("rankings.jsonl")), simulate(kept, seed, PEOPLE))
    log.info("%d sets of answers to learn from, %d held out", len(kept), len(held_out))
