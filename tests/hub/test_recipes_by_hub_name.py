"""`recipes/gpt2` as they stand, cut short by flags, with their hub names answered by a stand-in of the hub."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import repositories
import standin
import torch
from commands import NOWHERE, Outcome, Run
from commands import run as run_against
from peft import PeftConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

RECIPES = Path(__file__).parents[2] / "recipes" / "gpt2"
PPO = "--steps 2 --batch 8 --minibatch 4 --sampling.max_new_tokens 8 --hygiene.max_prompt_tokens 200 --critic_warmup 0"
COMMANDS = {
    "sft": f"sft {RECIPES}/sft.yaml --data.limit 48 --max_tokens 200 --batch 16 --epochs 1 --evaluations 1"
    " --completions 2 --completion_tokens 8",
    "reward": f"reward {RECIPES}/reward.yaml --max_tokens 200 --batch 16 --normalise_prompts 8"
    " --sampling.max_new_tokens 8 --evaluations 1",
    "ppo": f"ppo {RECIPES}/ppo.yaml {PPO}",
    "ppo-deberta": f"ppo {RECIPES}/deberta/ppo.yaml {PPO}",
}
PUBLISHED = {
    "published": f"ppo {RECIPES}/ppo.yaml {PPO} --model {repositories.SFT} --reward_model {repositories.REWARD}"
    " --output published",
    "swapped": f"ppo {RECIPES}/ppo.yaml {PPO} --model {repositories.REWARD} --reward_model {repositories.SFT}"
    " --output swapped",
    "unknown": "sft --model gtp2 --data tatsu-lab/alpaca --output unknown",
    "unknown data": "sft --model gpt2 --data tatsu-lab/alpacca --output unknown",
}


@dataclass(frozen=True)
class Online:
    """The recipes as they ran with the hub there: their outcomes, and where they left what."""

    place: Path
    home: Path
    outcomes: dict[str, Outcome]
    asked: list[str]

    def rows(self, name: str) -> list[dict[str, Any]]:
        text = (self.place / "runs" / "gpt2" / name / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def checkpoint(self, name: str) -> Path:
        return self.place / "runs" / "gpt2" / name / "checkpoint"

    @property
    def cached(self) -> dict[str, Path]:
        """What makes stock libraries find the base model where the runs have put it."""
        return {"cache_dir": self.home / "hub"}


@pytest.fixture(scope="module")
def online(hub: standin.Hub, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Online:
    place, home = tmp_path_factory.mktemp("online"), tmp_path_factory.mktemp("home")
    commands = COMMANDS | PUBLISHED
    outcomes = run(place, home, *commands.values())
    return Online(place, home, dict(zip(commands, outcomes, strict=True)), list(hub.asked))


@pytest.mark.parametrize("name", [*COMMANDS, "published"])
def test_it_runs(online: Online, name: str) -> None:
    assert online.outcomes[name].code == 0, online.outcomes[name].told


@pytest.mark.parametrize("name", ["ppo", "ppo-deberta"])
def test_the_policy_starts_as_its_reference(online: Online, name: str) -> None:
    first, last = online.rows(name)
    assert first["kl/exact"] == first["kl/k1"] == 0
    assert abs(last["kl/exact"]) > 0


@pytest.mark.parametrize("name", ["sft", "ppo", "ppo-deberta"])
def test_stock_libraries_open_the_policies(online: Online, name: str) -> None:
    checkpoint = online.checkpoint(name)
    assert PeftConfig.from_pretrained(checkpoint).base_model_name_or_path == "gpt2"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("gpt2", **online.cached), checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    logits = model(**tokenizer("\n\nHuman: Name a fruit.\n\nAssistant:", return_tensors="pt")).logits
    assert logits.shape[-1] == len(tokenizer) == model.config.vocab_size, "no entry was added"
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["reward", "ppo/value", "ppo-deberta/value"])
def test_stock_libraries_open_the_scalar_models(online: Online, name: str) -> None:
    run, _, inside = name.partition("/")
    stock = AutoModelForTokenClassification if inside else AutoModelForSequenceClassification
    base = stock.from_pretrained("gpt2", num_labels=1, pad_token_id=0, **online.cached)
    model = PeftModel.from_pretrained(base, online.checkpoint(run) / inside).eval()
    assert model(torch.tensor([[40, 41, 42]])).logits.isfinite().all()


def test_the_pad_token_is_an_entry_that_no_text_has(online: Online) -> None:
    """GPT-2's tokenizer has no pad token, and its end-of-text token must not become one."""
    assert AutoTokenizer.from_pretrained("gpt2", **online.cached).pad_token is None
    tokenizer = AutoTokenizer.from_pretrained(online.checkpoint("sft"))
    assert tokenizer.pad_token == "ÿ"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == len(tokenizer) - 1
    written = tokenizer("ÿ", split_special_tokens=True)["input_ids"]
    assert tokenizer.pad_token_id not in written
    assert tokenizer.decode(written) == "ÿ"


def test_the_hub_is_asked_for_files_and_told_nothing(online: Online) -> None:
    """transformers would have a web service convert the weights of the reward model, which are no safetensors, and
    looks for the discussion of that first."""
    assert any("pytorch_model.bin" in asked for asked in online.asked)
    assert {asked.split()[0] for asked in online.asked} == {"GET", "HEAD"}
    assert not [asked for asked in online.asked if "/commits" in asked or "/discussions" in asked]


def test_large_files_are_fetched_once(online: Online) -> None:
    fetched = Counter(asked for asked in online.asked if asked.startswith("GET /large/"))
    assert len(fetched) >= 5
    assert set(fetched.values()) == {1}


def test_a_second_run_works_from_the_cache_alone(hub: standin.Hub, run: Run, online: Online) -> None:
    before, asked = {name: online.rows(name) for name in COMMANDS}, len(hub.asked)
    commands = [*COMMANDS.values(), PUBLISHED["published"]]
    again = run(online.place, online.home, *(f"{command} --overwrite" for command in commands), offline=True)
    assert [outcome.code for outcome in again] == [0] * len(commands), [outcome.told for outcome in again]
    assert len(hub.asked) == asked
    assert {name: online.rows(name) for name in COMMANDS} == before


# ── names that lead nowhere ──────────────────────────────────────────────────────────────────────────────────────────


def error(outcome: Outcome) -> tuple[str, str]:
    """The last two lines: what is wrong, and what to do."""
    assert outcome.code == 2, outcome.told
    first, second = outcome.told.splitlines()[-2:]
    assert second.startswith("hint: ")
    return first, second


def test_a_name_that_the_hub_does_not_have(online: Online) -> None:
    first, second = error(online.outcomes["unknown"])
    assert first == "gtp2: is neither a directory here nor a model on the hub"
    assert "spell the hub name as on its page" in second
    first, second = error(online.outcomes["unknown data"])
    assert first.startswith("tatsu-lab/alpacca: not a file or directory here, and not to be had from the hub: ")
    assert not (online.place / "unknown").exists()


def test_a_reward_model_on_the_hub_is_no_policy(online: Online) -> None:
    first, _ = error(online.outcomes["swapped"])
    assert first == f"{repositories.REWARD}: is a reward model, not a policy model"
    assert not (online.place / "swapped").exists()


OFFLINE = {
    "gpt2": f"sft {RECIPES}/sft.yaml",
    repositories.ALPACA: f"sft {RECIPES}/sft.yaml --model base",
    repositories.RM_STATIC: f"reward {RECIPES}/reward.yaml --model base",
    repositories.DEBERTA: f"ppo {RECIPES}/deberta/ppo.yaml --model base --prompts prompts.txt --prompts.limit 40 {PPO}",
}


@pytest.fixture(scope="module")
def offline(hub: standin.Hub, run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    place, home = tmp_path_factory.mktemp("offline"), tmp_path_factory.mktemp("empty")
    (place / "base").symlink_to(hub.root / "models" / repositories.GPT2)
    (place / "prompts.txt").write_text("".join(f"Name fruit {i}.\n" for i in range(40)))
    outcomes = run(place, home, *OFFLINE.values(), offline=True)
    return dict(zip(OFFLINE, outcomes, strict=True))


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_and_not_in_the_cache(offline: dict[str, Outcome], name: str) -> None:
    first, second = error(offline[name])
    assert first.startswith(f"{name}: ")
    if name in (repositories.ALPACA, repositories.RM_STATIC):
        assert f"put train-00000-of-00001.parquet or train.jsonl into ./{name}/data" in second
    else:
        assert "give the directory of a model, or a hub name while online" in second
    if name != repositories.DEBERTA:  # prompts are read before it, and told
        assert offline[name].told.count("\n") == 2


def test_a_hub_that_cannot_be_reached_is_asked_once(online: Online, tmp_path: Path) -> None:
    """Nobody has set HF_HUB_OFFLINE. Its libraries would ask six times for each of many files, and tell each time."""
    command = COMMANDS["sft"].replace("--completions 2", "--completions 0")
    absent, cached = run_against(NOWHERE, tmp_path, online.home, f"{command} --model gpt2-xl", command)
    first, _ = error(absent)
    assert first.startswith("gpt2-xl: is not a directory here nor in the hub cache, and the hub cannot be reached: ")
    assert absent.told.count("\n") == 2
    assert cached.code == 0, cached.told
    assert cached.told.startswith("the hub cannot be reached, what is in its cache is used: ")
    assert "Retrying" not in cached.told
