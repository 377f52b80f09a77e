"""The whole loop from nothing, on the pocket world: a model that learns to answer, labelers who disagree, PPO.

Every stage is the one that `heed STAGE` runs, with settings for a model of less than a million weights; what one stage
hands the next lies in files under the demo's directory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from heed.data.hygiene import split_by_group
from heed.flows.demo_report import write_report
from heed.flows.going_on import go
from heed.flows.place import claim
from heed.pocket.exams import exams
from heed.pocket.generate import demonstrations, evaluation_prompts, ppo_prompts, ranking_prompts
from heed.pocket.labelers import LABELERS, degenerate, simulate
from heed.pocket.prose import pretraining_text
from heed.records import Candidates, read_jsonl, write_jsonl
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import (
    AdamWSettings,
    AdapterSettings,
    DataSettings,
    DecaySettings,
    HygieneSettings,
    LoraSettings,
    OptimizerSettings,
    SamplingSettings,
)
from heed.settings.demo import DemoSettings
from heed.settings.evaluate import EvaluateSettings, SampleSettings
from heed.settings.ppo import MissingEosSettings, PPOSettings, PtxSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings
from heed.stages import best_of_n, evaluate, ppo, pretrain, reward, sample, sft

log = logging.getLogger("heed")

TOKENS = 3_400_000  # of prose
DEMONSTRATIONS, EXAMS, RANKING_PROMPTS, PPO_PROMPTS, EVALUATION_PROMPTS = 8000, 8000, 7000, 2000, 600
HELD_OUT_SHARE = 0.2  # of the sets of candidates, by group
PEOPLE = 3  # who rank a set of candidates to learn from; a held-out set is ranked by everybody
PPO_STEPS = 23
SAMPLING = SamplingSettings(max_new_tokens=24, temperature=0.9, batch=64)
CANDIDATES = SamplingSettings(max_new_tokens=24, temperature=0.75, batch=128)  # what people are shown
HYGIENE = HygieneSettings(shared_prefix=0, max_per_user=0, max_prompt_tokens=40)
LORA = AdapterSettings(rank=16, alpha=32)
TOLD = "\n[%d/%d] %s"


@dataclass(frozen=True)
class Place:
    """Where everything of one demo lies."""

    root: Path

    def file(self, name: str) -> str:
        """A file of the generated world."""
        return str(self.root / "world" / name)

    def run(self, name: str) -> str:
        """The run directory of a stage."""
        return str(self.root / name)


def run(settings: DemoSettings) -> Path:
    """Generate the world, run every stage, judge the result by the gold score, and write report.json."""
    place, started = Place(Path(settings.output).expanduser()), time.perf_counter()
    claim(place.root, settings, "demo", "world", settings.seed)
    (place.root / "world").mkdir(exist_ok=True)
    torch.set_num_threads(1)  # products this small: two threads took three times as long as one, waiting for each other
    told = steps(place, settings)
    for number, (sentence, do) in enumerate(told.items(), start=1):
        log.info(TOLD, number, len(told), sentence)
        do()
    write_report(place.root, settings, started)
    return place.root


def steps(place: Place, settings: DemoSettings) -> dict[str, Callable[[], object]]:
    """What happens, in order, each with the sentence that announces it."""
    whole: dict[str, Callable[[], object]] = {
        "A little world is written down: prose about it, questions, and answers by people of mixed care.": (
            lambda: write_world(place, settings.seed)
        ),
        "A small transformer learns the language of that world from prose alone (pretrain).": (
            lambda: go(pretrain.run, pretrain_settings(place, settings))
        ),
        "It learns to answer from demonstrations, of which three in ten are wrong (sft).": (
            lambda: go(sft.run, sft_settings(place, settings))
        ),
        "It answers each of some new questions four times (sample).": (
            lambda: go(sample.run, sample_settings(place, settings))
        ),
        "Five simulated labelers, who often disagree, rank the four answers (label).": (
            lambda: label(place, settings.seed)
        ),
        "A reward model first passes exams about other questions: which answer is right (reward).": (
            lambda: go(reward.run, exam_settings(place, settings))
        ),
        "It goes on to learn which answer the labelers would prefer (reward).": (
            lambda: go(reward.run, reward_settings(place, settings))
        ),
        "PPO changes the model towards answers that the reward model scores higher (ppo).": (
            lambda: go(ppo.run, ppo_settings(place, settings))
        ),
    }
    if settings.full:
        whole["The same PPO with pretraining text mixed in and averaged weights (PPO-ptx)."] = lambda: go(
            ppo.run, ptx_settings(place, settings)
        )
        whole["For comparison, the best of sixteen answers of the SFT model (best-of-n)."] = lambda: go(
            best_of_n.run, best_of_n_settings(place, settings)
        )
    whole["Base, SFT and PPO answer questions about things that none of them was asked about (evaluate)."] = lambda: go(
        evaluate.run, evaluate_settings(place, settings)
    )
    return whole


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


# --- settings -------------------------------------------------------------------------------------------------------


def common(place: Place, name: str, settings: DemoSettings) -> dict[str, object]:
    """What every stage of the demo has."""
    return {
        "output": place.run(name), "overwrite": settings.overwrite, "resume": settings.resume, "seed": settings.seed,
        "device": settings.device, "track": settings.track,
    }  # fmt: skip


def pretrain_settings(place: Place, settings: DemoSettings) -> PretrainSettings:
    """A GPT-2 shape of under a million weights, one entry a word."""
    return PretrainSettings(
        **common(place, "pretrain", settings), text=(place.file("text.txt"),), tokenizer="words", vocabulary=512,
        layers=2, width=96, heads=3, context=64, sequence=64, batch=16, dtype="float32",
        optimizer=OptimizerSettings(learning_rate=8e-3, weight_decay=0.1, floor=0.0),
    )  # fmt: skip


def sft_settings(place: Place, settings: DemoSettings) -> SFTSettings:
    """Every weight is trained: what comes out is the frozen trunk of all later stages."""
    return SFTSettings(
        **common(place, "sft", settings), model=place.run("pretrain"),
        data=DataSettings(path=place.file("demonstrations.jsonl")),
        hygiene=HYGIENE, lora=LoraSettings(rank=0), epochs=1, completions=100, completion_tokens=24, evaluations=3,
        optimizer=OptimizerSettings(learning_rate=5e-4),
    )  # fmt: skip


def sample_settings(place: Place, settings: DemoSettings) -> SampleSettings:
    """Four answers to each ranking prompt, cooler than PPO's."""
    return SampleSettings(
        **common(place, "sample", settings), model=place.run("sft"), responses=4, hygiene=HYGIENE,
        sampling=CANDIDATES, prompts=DataSettings(path=place.file("ranking-prompts.jsonl")),
    )  # fmt: skip


def exam_settings(place: Place, settings: DemoSettings) -> RewardSettings:
    """The SFT model learns to tell right answers from wrong ones; a few of the exams are held out."""
    return reward_settings(place, settings).model_copy(
        update={
            "output": place.run("exams"), "start_from": "", "data": DataSettings(path=place.file("exams.jsonl")),
            "validation": DataSettings(), "validation_share": 0.05, "batch": 16, "evaluations": 1,
            "demonstrations": DataSettings(), "normalise_prompts": 16,  # its scores are not used
            "optimizer": OptimizerSettings(learning_rate=1.5e-3, weight_decay=0.05),
        }
    )  # fmt: skip


def reward_settings(place: Place, settings: DemoSettings) -> RewardSettings:
    """Every weight is trained, by Muon: on as many rankings it is right more often than an adapter."""
    return RewardSettings(
        **common(place, "reward", settings), model=place.run("sft"), start_from=place.run("exams"),
        data=DataSettings(path=place.file("rankings.jsonl")),
        validation=DataSettings(path=place.file("held-out-rankings.jsonl")),
        demonstrations=DataSettings(path=place.file("demonstrations.jsonl"), limit=1000),
        sampling=SAMPLING, batch=8, epochs=1, lora=AdapterSettings(rank=0), method="muon", evaluations=2,
        optimizer=OptimizerSettings(learning_rate=1e-3, weight_decay=0.05),
    )  # fmt: skip


def ppo_settings(place: Place, settings: DemoSettings) -> PPOSettings:
    """Policy and value adapters on the same trunk; a missing end costs three standard deviations."""
    return PPOSettings(
        **common(place, "ppo", settings), model=place.run("sft"), reward_model=place.run("reward"),
        prompts=DataSettings(path=place.file("ppo-prompts.jsonl")), hygiene=HYGIENE, sampling=SAMPLING,
        steps=PPO_STEPS, batch=128, minibatch=32, microbatch=128, epochs=2, kl_coef=0.1, kl_budget=8, critic_warmup=3,
        missing_eos=MissingEosSettings(mode="replace", value=3), lora=LORA, evaluations=2,
        optimizer=DecaySettings(learning_rate=5e-4, schedule="constant", eps=1e-5),
        value_optimizer=AdamWSettings(learning_rate=1e-3, eps=1e-5),
    )  # fmt: skip


def ptx_settings(place: Place, settings: DemoSettings) -> PPOSettings:
    """The same run with pretraining text and averaged weights."""
    changes = {
        "output": place.run("ppo-ptx"), "ema": 0.992,
        "ptx": PtxSettings(coef=0.75, text=(place.file("text.txt"),), ratio=1, sequence=64),
    }  # fmt: skip
    return ppo_settings(place, settings).model_copy(update=changes)


def best_of_n_settings(place: Place, settings: DemoSettings) -> BestOfNSettings:
    """The baseline that trains nothing."""
    return BestOfNSettings(
        **common(place, "best-of-n", settings), model=place.run("sft"), reward_model=place.run("reward"), n=16,
        prompts=DataSettings(path=place.file("evaluation-prompts.jsonl")), hygiene=HYGIENE, sampling=SAMPLING,
    )  # fmt: skip


def evaluate_settings(place: Place, settings: DemoSettings) -> EvaluateSettings:
    """All checkpoints on the evaluation prompts, and on prose."""
    models = {"sft": place.run("sft"), "base": place.run("pretrain"), "ppo": place.run("ppo")}
    if settings.full:
        models["ppo-ptx"] = place.run("ppo-ptx")
    return EvaluateSettings(
        **common(place, "evaluate", settings), models=models, reward_models={"reward": place.run("reward")},
        prompts=DataSettings(path=place.file("evaluation-prompts.jsonl")), hygiene=HYGIENE, sampling=SAMPLING,
        text=(place.file("held-out-text.txt"),),
    )  # fmt: skip
