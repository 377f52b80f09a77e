"""The settings of every stage of the demo: sizes and rates for a model of less than a million weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import (
    AdamWSettings,
    AdapterSettings,
    DataSettings,
    DecaySettings,
    HygieneSettings,
    LoraSettings,
    MissingEosSettings,
    OptimizerSettings,
    SamplingSettings,
)
from heed.settings.demo import DemoSettings
from heed.settings.evaluate import EvaluateSettings, SampleSettings
from heed.settings.ppo import PPOSettings, PtxSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings

PPO_STEPS, LONG_STEPS, OVER_STEPS = 23, 48, 40
MOST = 128  # answers to each prompt of best-of-n
SAMPLING = SamplingSettings(max_new_tokens=24, temperature=0.9, batch=64)
CANDIDATES = SamplingSettings(max_new_tokens=24, temperature=0.75, batch=128)  # what people are shown
HYGIENE = HygieneSettings(shared_prefix=0, max_per_user=0, max_prompt_tokens=40)
LORA = AdapterSettings(rank=16, alpha=32)
MISSING_EOS = MissingEosSettings(mode="replace", value=3)


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
        missing_eos=MISSING_EOS, lora=LORA, evaluations=6, gold=True,
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


def judge_settings(place: Place, settings: DemoSettings) -> RewardSettings:
    """A reward model of the rankings that the other one has not seen, for evaluations alone."""
    return reward_settings(place, settings).model_copy(
        update={
            "output": place.run("judge"), "data": DataSettings(path=place.file("held-out-rankings.jsonl")),
            "validation": DataSettings(), "validation_share": 0.1, "evaluations": 1,
        }
    )  # fmt: skip


def long_settings(place: Place, settings: DemoSettings) -> PPOSettings:
    """The same PPO for twice as long, watched on evaluation prompts by two judges that do not pay."""
    changes = {
        "output": place.run("ppo-long"), "steps": LONG_STEPS, "judge": place.run("judge"), "validation_limit": 300,
        "validation_prompts": DataSettings(path=place.file("evaluation-prompts.jsonl")),
        "evaluations": LONG_STEPS // 8 + 1,
    }  # fmt: skip
    return ppo_settings(place, settings).model_copy(update=changes)


def over_settings(place: Place, settings: DemoSettings) -> PPOSettings:
    """Without a price on KL and without a budget, at four times the rate."""
    changes = {
        "output": place.run("over-optimised"), "kl_coef": 0.0, "kl_budget": 0.0, "steps": OVER_STEPS, "select": "gold",
        "missing_eos": MissingEosSettings(mode="none"), "evaluations": OVER_STEPS // 2 + 1,
        "optimizer": DecaySettings(learning_rate=2e-3, schedule="constant", eps=1e-5),
    }  # fmt: skip
    return long_settings(place, settings).model_copy(update=changes)


def best_of_n_settings(place: Place, settings: DemoSettings) -> BestOfNSettings:
    """The baseline that trains nothing; so many samples that the attainable ceiling can be drawn from them."""
    return BestOfNSettings(
        **common(place, "best-of-n", settings), model=place.run("sft"), reward_model=place.run("reward"), n=MOST,
        judge=place.run("judge"), gold=True, hygiene=HYGIENE, sampling=SAMPLING, missing_eos=MISSING_EOS,
        prompts=DataSettings(path=place.file("evaluation-prompts.jsonl"), limit=300),
    )  # fmt: skip


def evaluate_settings(place: Place, settings: DemoSettings) -> EvaluateSettings:
    """All checkpoints on the evaluation prompts, and on prose."""
    models = {"sft": place.run("sft"), "base": place.run("pretrain"), "ppo": place.run("ppo")}
    if settings.full:
        models |= {"ppo-ptx": place.run("ppo-ptx"), "ema": str(place.root / "ppo-ptx" / "checkpoint" / "ema")}
    judges = {"reward": place.run("reward")} | ({"judge": place.run("judge")} if settings.full else {})
    return EvaluateSettings(
        **common(place, "evaluate", settings), models=models, reward_models=judges,
        prompts=DataSettings(path=place.file("evaluation-prompts.jsonl")), hygiene=HYGIENE, sampling=SAMPLING,
        text=(place.file("held-out-text.txt"),),
    )  # fmt: skip
