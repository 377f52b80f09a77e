"""Every setting of every stage changes what a run leaves, or is refused: none is read and forgotten."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from unittest import mock

import pytest
import torch
from pydantic import ValidationError
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

from heed import config
from heed.errors import HeedError
from heed.models import recompute
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import StageSettings
from heed.settings.evaluate import EvaluateSettings, SampleSettings
from heed.settings.ppo import PPOSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import EvaluateRewardSettings, RewardSettings
from heed.settings.sft import SFTSettings
from heed.stages import best_of_n, evaluate, evaluate_reward, ppo, pretrain, reward, sample, sft
from heed.training.run_dir import STATES, RunDir

Nested = dict[str, Any]
ABOUT = {"config.yaml", "run.json", "timings.jsonl", "README.md", "heed.json"}
"""Files that say what was set; a setting must be seen in the others."""
ECHOES = {
    "temperature",
    "max_new_tokens",
    "kept",
    "checkpoints",
    "reward_models",
    "model",
    "judge",
    "samples",
}
"""Settings that stand in report.json as they were given."""

LORA = {"rank": 4, "alpha": 8}
FAST = {"learning_rate": 3e-3}
SAMPLING = {"max_new_tokens": 6, "batch": 8}
BASES: dict[str, tuple[type[StageSettings], Callable[[Any], object], Nested]] = {
    "pretrain": (PretrainSettings, pretrain.run, {
        "text": ("PLACE/text.txt",), "tokenizer": "words", "vocabulary": 32, "layers": 1, "width": 16, "heads": 2,
        "context": 16, "sequence": 16, "batch": 16, "dtype": "float32", "optimizer": FAST,
    }),
    "sft": (SFTSettings, sft.run, {
        "model": "PLACE/base", "data": "PLACE/data", "batch": 8, "epochs": 1.0, "lora": LORA, "optimizer": FAST,
        "evaluations": 2, "completions": 4, "completion_tokens": 6, "few_shot": 1, "max_tokens": 60,
        "validation_share": 0.2, "template": "plain",
    }),
    "reward": (RewardSettings, reward.run, {
        "model": "PLACE/sft", "data": "PLACE/pairs", "batch": 8, "max_tokens": 60, "sampling": SAMPLING,
        "optimizer": FAST, "normalise_prompts": 8, "validation_share": 0.2, "evaluations": 2,
        "demonstrations": "PLACE/data",
    }),
    "ppo": (PPOSettings, ppo.run, {
        "model": "PLACE/sft", "reward_model": "PLACE/reward", "prompts": "PLACE/data", "steps": 3, "batch": 8,
        "minibatch": 4, "microbatch": 4, "critic_warmup": 0, "warmup_steps": 0, "sampling": SAMPLING,
        "evaluations": 3, "validation_share": 0.2, "kl_target": 0.5, "kl_horizon": 20.0, "ema": 0.9,
        "ptx": {"coef": 0.5, "text": ("PLACE/text.txt",), "ratio": 1, "sequence": 16}, "optimizer": FAST,
    }),
    "evaluate": (EvaluateSettings, evaluate.run, {
        "models": {"a": "PLACE/base", "b": "PLACE/sft"}, "reward_models": {"judge": "PLACE/reward"},
        "prompts": "PLACE/data", "sampling": SAMPLING, "text": ("PLACE/text.txt",), "few_shot": 1,
        "best_of": 4,
    }),
    "sample": (SampleSettings, sample.run, {
        "model": "PLACE/sft", "prompts": "PLACE/data", "responses": 2, "sampling": SAMPLING,
    }),
    "best_of_n": (BestOfNSettings, best_of_n.run, {
        "model": "PLACE/sft", "reward_model": "PLACE/reward", "prompts": "PLACE/data", "n": 4, "sampling": SAMPLING,
    }),
    "evaluate_reward": (EvaluateRewardSettings, evaluate_reward.run, {
        "model": "PLACE/reward", "data": "PLACE/pairs", "max_tokens": 60, "microbatch_tokens": 64,
    }),
}  # fmt: skip

EVERY: Nested = {
    "output": "other", "overwrite": True, "resume": True, "save_every": 1, "kept_states": 1, "seed": 1,
    "dtype": "bfloat16", "device": "cuda:7", "track": ("trackio",), "dry_run": True,
}  # fmt: skip
DATA: Nested = {"path": "PLACE/others", "split": "test", "limit": 20, "sources": ("b",), "columns": {"aside": "prompt"}}
HYGIENE: Nested = {"shared_prefix": 2, "max_per_user": 1, "max_prompt_tokens": 2}
DRAWN: Nested = {"max_new_tokens": 4, "temperature": 0.7, "batch": 4}
ADAMW: Nested = {
    "learning_rate": 1e-3, "weight_decay": 0.9, "betas": (0.5, 0.6), "eps": 1e-2, "max_grad_norm": 1e-3,
}  # fmt: skip
DECAY: Nested = {**ADAMW, "schedule": "linear", "floor": 0.9}
WARMED: Nested = {**DECAY, "warmup": 0.9}
ADAPTER: Nested = {"rank": 2, "alpha": 4.0, "targets": ("c_attn",)}
CHANGES: dict[str, Nested] = {
    "pretrain": {
        **EVERY, "text": ("PLACE/other.txt",), "limit_characters": 3000, "validation_share": 0.3, "tokenizer": "bytes",
        "vocabulary": 20, "layers": 2, "width": 32, "heads": 4, "context": 32, "batch": 8, "sequence": 8,
        "epochs": 2.0, "method": "adamw", "optimizer": WARMED,
    },
    "sft": {
        **EVERY, "recompute": True,
        "model": "PLACE/base2", "data": DATA, "validation": DATA, "validation_share": 0.4, "hygiene": HYGIENE,
        "template": "alpaca", "max_tokens": 8, "batch": 4, "microbatch_tokens": 16, "epochs": 2.0,
        "pretrain_text": ("PLACE/other.txt",), "pretrain_share": 0.3, "lora": {**ADAPTER, "dropout": 0.5},
        "optimizer": WARMED, "evaluations": 1, "completions": 2, "completion_tokens": 3, "few_shot": 0,
    },
    "reward": {
        **EVERY, "recompute": True,
        "model": "PLACE/sft2", "start_from": "PLACE/reward", "data": DATA, "validation": DATA,
        "validation_share": 0.4, "demonstrations": DATA, "normalise_prompts": 16, "sampling": DRAWN, "half": "first",
        "max_tokens": 8, "batch": 4, "microbatch_tokens": 16, "epochs": 2.0, "centring": 0.5, "lora": ADAPTER,
        "method": "muon", "optimizer": WARMED, "head_learning_rate": 0.1, "evaluations": 1,
    },
    "ppo": {
        **EVERY, "recompute": True,
        "model": "PLACE/sft2", "reward_model": "PLACE/reward2",
        "external_reward": {"model": "PLACE/classifier", "form": "text", "batch": 3, "normalise_prompts": 16},
        "prompts": DATA, "validation_prompts": DATA, "validation_share": 0.4, "validation_limit": 8,
        "hygiene": HYGIENE, "steps": 2, "batch": 6, "minibatch": 2, "microbatch": 3, "epochs": 1, "sampling": DRAWN,
        "kl_coef": 0.5, "kl_target": 1e-3, "kl_horizon": 40.0, "kl_budget": 1e-6, "allow_biased_kl": True,
        "missing_eos": {"mode": "replace", "value": 3.0}, "gamma": 0.5, "gae_lambda": 0.5, "clip_range": 1e-4,
        "value_clip_range": 1e-4, "critic_warmup": 1, "lora": ADAPTER, "optimizer": DECAY, "warmup_steps": 2,
        "value_optimizer": ADAMW, "ema": 0.5,
        "ptx": {"coef": 0.1, "text": ("PLACE/other.txt",), "ratio": 0.5, "sequence": 8}, "evaluations": 1,
        "select": "heldout", "judge": "PLACE/reward2", "gold": True,
    },
    "evaluate": {
        **EVERY, "models": {"a": "PLACE/base", "b": "PLACE/base2"}, "reference": "b", "reward_models": {},
        "prompts": DATA, "hygiene": HYGIENE, "sampling": DRAWN, "text": (), "text_characters": 1000, "few_shot": 2,
        "best_of": 2, "missing_eos": {"mode": "replace", "value": 3.0}, "gold": True, "overlap": ("bleu",),
        "people": DATA,
        "endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m", "key": "K", "prompts": 1, "timeout": 1.0},
        "harness": {"tasks": ("t",), "limit": 1, "include": "mine"},
    },
    "sample": {
        **EVERY, "model": "PLACE/base", "prompts": DATA, "hygiene": HYGIENE, "responses": 3, "sampling": DRAWN,
    },
    "best_of_n": {
        **EVERY, "model": "PLACE/base", "reward_model": "PLACE/reward2", "judge": "PLACE/reward2", "gold": True,
        "prompts": DATA,
        "hygiene": HYGIENE, "n": 2, "sampling": DRAWN, "missing_eos": {"mode": "replace", "value": 3.0},
    },
    "evaluate_reward": {
        **EVERY, "model": "PLACE/reward2", "data": DATA, "max_tokens": 8, "microbatch_tokens": 16,
    },
}  # fmt: skip
"""What each setting is changed to."""
BESIDE: dict[str, Nested] = {
    "kept_states": {"save_every": 1},
    "overwrite": {"again": True},
    "validation": {"validation": "PLACE/held-out"},
    "validation_prompts": {"validation_prompts": "PLACE/held-out"},
    "pretrain_text": {"pretrain_share": 0.3, "pretrain_text": ("PLACE/text.txt",)},
    "pretrain_share": {"pretrain_share": 0.1, "pretrain_text": ("PLACE/text.txt",)},
    "external_reward": {"reward_model": "", "external_reward": {"model": "PLACE/classifier2", "normalise_prompts": 8}},
    "optimizer.floor": {"optimizer": {**FAST, "schedule": "linear"}},
    "missing_eos.value": {"missing_eos": {"mode": "subtract"}},
}  # fmt: skip
"""Settings beside which a setting means something; the run that it is compared with has them too."""
SEEN_ELSEWHERE = {
    **{f"{stage}.recompute": "stages/test_every_setting.py" for stage in ("sft", "reward", "ppo")},
    "ppo.allow_biased_kl": "clinic/test_live.py",  # goes on where a grave finding stops the run
    **{f"evaluate.endpoint.{name}": "evaluation/test_endpoint.py" for name in ("model", "key")},
    **{f"evaluate.endpoint.{name}": "stages/test_evaluate.py" for name in ("prompts", "timeout")},
    **{f"evaluate.harness.{name}": "evaluation/test_harness.py" for name in ("tasks", "limit", "include")},
    # of rankings of the very answers of this run; read as all rows are
    **{f"evaluate.people.{name}": "evaluation/test_people.py" for name in ("split", "limit", "sources", "columns")},
}
"""Settings that change no number, or mean something only in a broken run, with a server or with people; and the tests
that look at it."""
FAST_STAGES = ("pretrain", "sample", "evaluate_reward")
"""Whose settings are tried with every other test; the others with `-m slow`."""


def leaves(changes: Nested, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in changes.items():
        group = isinstance(value, dict) and name not in ("models", "reward_models", "columns")
        yield from leaves(value, f"{before}{name}.") if group else [(before + name, value)]


CASES = [(stage, name, value) for stage, changes in CHANGES.items() for name, value in leaves(changes)]


def filled(value: Any, place: Path) -> Any:
    if isinstance(value, dict):
        return {name: filled(item, place) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(filled(item, place) for item in value)
    return value.replace("PLACE", str(place)) if isinstance(value, str) else value


def laid(base: Nested, name: str, value: Any) -> Nested:
    """`base` with one setting, named through its groups, set."""
    first, _, rest = name.partition(".")
    if not rest:
        return {**base, first: value}
    inner = base.get(first, {})
    return {**base, first: laid({"path": inner} if isinstance(inner, str) else inner, rest, value)}


@pytest.fixture(scope="module")
def place(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data in two splits, other data, and two of each kind of model."""
    place = tmp_path_factory.mktemp("every-setting")
    for folder in ("data", "pairs", "others", "held-out"):
        (place / folder).mkdir()
    for split, count, word in (("train", 48, "q"), ("test", 40, "z")):
        write(place / "data" / f"{split}.jsonl", [demonstration(word, i) for i in range(count)])
        write(place / "pairs" / f"{split}.jsonl", [pair(word, i) for i in range(count)])
        for folder in ("others", "held-out"):
            rows = [{**demonstration(folder[0], i), **pair(folder[0], i)} for i in range(40)]
            write(place / folder / f"{split}.jsonl", rows if split == "train" else rows[10:])
    for name, animals in (("text", ("cat", "dog")), ("other", ("cow", "owl"))):
        documents = [
            f"the {animal} says {sound} {letter}."
            for animal, sound in zip(animals, ("miau", "wau"), strict=True)
            for letter in 4 * ascii_lowercase
        ]
        (place / f"{name}.txt").write_text("<|endoftext|>".join(documents))
    (place / "base").symlink_to(tiny_directory)
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    for parameter in model.parameters():
        parameter.data *= 1.1
    model.save_pretrained(place / "base2")
    tokenizer.save_pretrained(place / "base2")
    of_pairs = AutoTokenizer.from_pretrained(tiny_directory)
    parted = TemplateProcessing(single="$A", pair="$A <|endoftext|> $B", special_tokens=[("<|endoftext|>", 0)])
    of_pairs.backend_tokenizer.post_processor = parted
    for number in (1, 2):
        torch.manual_seed(number)
        shape = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2, num_labels=1,
                           initializer_range=0.3, pad_token_id=1)  # fmt: skip
        path = place / f"classifier{'' if number == 1 else '2'}"
        GPT2ForSequenceClassification(shape).save_pretrained(path)
        of_pairs.save_pretrained(path)
        another = "" if number == 1 else "2"
        made(place, "sft", f"sft{another}", seed=number, few_shot=0, completions=0)
        made(place, "reward", f"reward{another}", seed=number)
    return place


def demonstration(word: str, i: int) -> dict[str, Any]:
    return {"prompt": f"{word}{i}", "response": "ab" * (1 + i % 4), "source": "ab"[i % 2], "user": str(i % 7),
            "aside": f"another {word}{i}"}  # fmt: skip


def pair(word: str, i: int) -> dict[str, Any]:
    return {"prompt": f"{word}{i}", "chosen": "ab!" + "c" * (i % 3), "rejected": "ba", "source": "ab"[i % 2],
            "aside": f"another {word}{i}"}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(place: Path, stage: str, name: str, **changes: Any) -> None:
    kind, run, base = BASES[stage]
    run(kind(**{**filled(base, place), "output": str(place / name), **changes}))


def left(stage: str, settings: Nested) -> dict[str, Any]:
    """What a run leaves in the directory `run`, but for what only says how it was set; or why it was refused."""
    kind, run, _ = BASES[stage]
    settings, states = dict(settings), []
    save_state = RunDir.save_state

    def seen(self: RunDir, step: int, *arguments: Any, **options: Any) -> None:
        save_state(self, step, *arguments, **options)
        states.append((step, sorted(path.name for path in (self.path / STATES).iterdir())))

    try:
        if settings.pop("again", False):
            run(kind(**{"output": "run", **settings, "overwrite": False}))
        with mock.patch.object(RunDir, "save_state", seen):
            run(kind(**{"output": "run", **settings}))
    except (HeedError, ValidationError) as refused:
        return {"refused": str(refused)}
    files = {path: path.read_bytes() for path in sorted(Path("run").rglob("*")) if path.is_file()}
    shown: dict[str, Any] = {str(path): words for path, words in files.items() if path.name not in ABOUT}
    if report := shown.pop("run/report.json", None):
        shown["report"] = {name: value for name, value in json.loads(report).items() if name not in ECHOES}
    return {**shown, "states": states}


@pytest.fixture(scope="module")
def compared_with(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], dict[str, Any]]:
    """What the run leaves that a setting of a stage is compared with."""

    @cache
    def of(stage: str, beside: str) -> dict[str, Any]:
        with chdir(tmp_path_factory.mktemp("base")):
            return left(stage, filled({**BASES[stage][2], **BESIDE.get(beside, {})}, place))

    return of


def test_the_list_has_every_setting() -> None:
    for stage, (kind, _, _) in BASES.items():
        groups = {name for name, field in config.fields(kind) if config.is_group(field.annotation)}
        every = {name for name, _ in config.fields(kind)} - groups
        assert {name for name, _ in leaves(CHANGES[stage])} == every, stage


def marked(case: tuple[str, str, Any]) -> Any:
    marks = () if case[0] in FAST_STAGES else pytest.mark.slow
    return pytest.param(*case, id=f"{case[0]}.{case[1]}", marks=marks)


@pytest.mark.parametrize(("stage", "name", "value"), [marked(case) for case in CASES])
def test_a_setting_makes_a_difference(
    stage: str,
    name: str,
    value: Any,
    place: Path,
    tmp_path: Path,
    compared_with: Callable[[str, str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if elsewhere := SEEN_ELSEWHERE.get(f"{stage}.{name}"):
        assert (Path(__file__).parents[1] / elsewhere).exists()
        return
    logging.getLogger("heed").setLevel(logging.ERROR)
    group = name.partition(".")[0]
    beside = name if name in BESIDE else group if group in BESIDE else ""
    base = filled({**BASES[stage][2], **BESIDE.get(beside, {})}, place)
    monkeypatch.chdir(tmp_path)
    assert left(stage, laid(base, name, filled(value, place))) != compared_with(stage, beside)


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_what_is_computed_again_leaves_the_same_files(
    stage: str,
    place: Path,
    tmp_path: Path,
    compared_with: Callable[[str, str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again: list[object] = []
    checkpoint = recompute.checkpoint

    def seen(layer: Callable[..., Any], *given: Any, **named: Any) -> Any:
        again.append(layer)
        return checkpoint(layer, *given, **named)

    monkeypatch.setattr(recompute, "checkpoint", seen)
    monkeypatch.chdir(tmp_path)
    expected = compared_with(stage, "")
    assert not again
    settings = filled({**BASES[stage][2], "recompute": True}, place)
    assert left(stage, settings) == expected
    assert again and "refused" not in expected
