"""What a person can get wrong is told in two lines, with exit code 2, and leaves no trace in the output directory."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed import cli
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, ValueModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

RECIPES = Path(__file__).parents[1] / "recipes"
PROMPTS = [{"prompt": f"p{i}", "response": f"r{i}"} for i in range(20)]
PAIRS = [{"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": "no"} for i in range(20)]


@pytest.fixture(scope="module")
def place(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with models and files that fit each other, and such as do not."""
    place = tmp_path_factory.mktemp("bad")
    shutil.copytree(tiny_directory, place / "base")
    write_checkpoints(place)
    write_files(place)
    return place


def write_checkpoints(place: Path) -> None:
    """`sft`, `reward` and `value`, adapters of `base`; `plain` is a reward model of another template."""
    trunk = Trunk.load(open_checkpoint(str(place / "base")), torch.float32, torch.device("cpu"))
    trunk.add_adapter("sft", LoraSettings(rank=2))
    policy = Policy(trunk, "sft")
    body = trained_copy(policy, "reward", LoraSettings(rank=2))
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_policy(policy, place / "sft")
    save_scalar(RewardModel(trunk, body.adapter, head), place / "reward")
    save_scalar(ValueModel(trunk, body.adapter, head), place / "value")
    about = {"base_hash": trunk.hash, "template": {"name": "dialogue", "hash": ""}}
    for name, kind in {"sft": "policy", "reward": "reward", "value": "value"}.items():
        write_metadata(place / name, {**about, "kind": kind})
    shutil.copytree(place / "reward", place / "plain")
    write_metadata(place / "plain", {**about, "kind": "reward", "template": {"name": "plain", "hash": ""}})
    write_damaged(place)


def write_damaged(place: Path) -> None:
    """Models that lack a part, and adapters that name another base than their own."""
    other = AutoModelForCausalLM.from_pretrained(place / "base")
    other.transformer.h[0].mlp.c_fc.weight.data += 1
    other.save_pretrained(place / "other")
    AutoTokenizer.from_pretrained(place / "base").save_pretrained(place / "other")
    based_on(place / "sft", place / "orphan-sft", str(place / "other"))
    based_on(place / "reward", place / "orphan-reward", str(place / "other"))
    based_on(place / "sft", place / "based-on-hub", "owner/base")
    based_on(place / "sft", place / "moved", "/gone/base")
    for name, source in {"half": "base", "torn": "base", "half-adapter": "sft"}.items():
        shutil.copytree(place / source, place / name)
    (place / "half-adapter" / "adapter_model.safetensors").unlink()
    weights = place / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    other.config.tie_word_embeddings = False
    other.config.save_pretrained(place / "half")  # which says that there is an output head of its own


def based_on(adapter: Path, path: Path, base: str) -> None:
    """A copy of an adapter that names another base."""
    shutil.copytree(adapter, path)
    told = json.loads((path / "adapter_config.json").read_text()) | {"base_model_name_or_path": base}
    (path / "adapter_config.json").write_text(json.dumps(told))


def write_files(place: Path) -> None:
    """Data good and bad, recipes with a typing error, and directories that are no place for a run."""
    contents = {
        "good.jsonl": PROMPTS,
        "pairs.jsonl": PAIRS,
        "empty-responses.jsonl": [{"prompt": f"p{i}", "response": " "} for i in range(9)],
        "identical.jsonl": [{"prompt": f"p{i}", "chosen": "same", "rejected": "same "} for i in range(9)],
        "one.jsonl": PROMPTS[:1],
        "preamble.jsonl": [{"prompt": "p" * 205 + str(i), "response": "r"} for i in range(20)],
        "transcripts.jsonl": [{"prompt": f"\n\nHuman: p{i}\n\nAssistant: r"} for i in range(9)],
    }
    for name, rows in contents.items():
        (place / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "malformed.jsonl").write_text(json.dumps(PROMPTS[0]) + "\n" + '{"prompt": "p", "response": "r"\n')
    (place / "columns.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    (place / "void.jsonl").write_text("")
    (place / "short.csv").write_text("prompt,response\np,r\np\n")
    (place / "twice.jsonl").write_text('{"prompt": "p", "prompt": "q", "response": "r"}\n')
    (place / "saved").mkdir()
    (place / "saved" / "state.json").write_text('{"_data_files": [{"filename": "../good.jsonl"}]}')
    typed = (RECIPES / "gpt2" / "ppo.yaml").read_text()
    (place / "typo.yaml").write_text(typed.replace("max_new_tokens", "max_new_token"))
    (place / "section.yaml").write_text("reward: {model: sft, data: pairs.jsonl, epoch: 1, output: out}\n")
    (place / "ended").mkdir()
    (place / "ended" / "run.json").write_text('{"finished": true}')
    (place / "papers").mkdir()
    (place / "papers" / "notes.txt").write_text("mine")


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place as the working directory; what a command changes in its process is put back."""
    handler, log = signal.getsignal(signal.SIGTERM), logging.getLogger("heed")
    kept, environment = (log.handlers, log.propagate, log.level), dict(os.environ)
    monkeypatch.chdir(place)
    yield place
    signal.signal(signal.SIGTERM, handler)
    log.handlers, log.propagate, log.level = kept
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    shutil.rmtree(place / "out", ignore_errors=True)


SFT = "sft --model base --data good.jsonl --output out"
REWARD = "reward --model sft --data pairs.jsonl --output out --max_tokens 60 --sampling.max_new_tokens 8"
PPO = "ppo --model sft --reward_model reward --prompts good.jsonl --output out --sampling.max_new_tokens 8"

# What is typed (of a flag given twice the last counts), how the first line begins, part of the hint.
WITHOUT_TORCH = {
    "an unknown setting beside a recipe": (
        f"ppo {RECIPES}/gpt2/ppo.yaml --kl_coeff 0.1",
        "--kl_coeff: unknown setting",
        "did you mean kl_coef?",
    ),
    "a wrong type in a group": (
        f"{REWARD} --lora.rank many",
        "--lora.rank: 'many' should be a valid integer",
        "rank of each update",
    ),
    "a typo in a recipe": (
        "ppo typo.yaml",
        "typo.yaml: sampling.max_new_token: unknown setting",
        "did you mean sampling.max_new_tokens?",
    ),
    "a typo in a section": ("reward section.yaml", "section.yaml: epoch: unknown setting", "did you mean epochs?"),
    "out of bounds": (f"{PPO} --batch 1", "--batch: 1 should be greater than or equal to 2", "episodes a step"),
    "a missing file": (f"{SFT} --data gone.jsonl", "gone.jsonl: there is no such file or directory", ".parquet"),
    "a missing directory in a recipe": (
        f"ppo {RECIPES}/gpt2/ppo.yaml --validation_prompts ./gone",
        "./gone: there is no such file or directory",
        "name a file",
    ),
}
FILES = {
    "a hub data set": (f"{SFT} --data owner/rows", "owner/rows: not a file or directory", "into ./owner/rows/data"),
    "a malformed line": (f"{SFT} --data malformed.jsonl", "malformed.jsonl:2: not valid JSON", "one JSON object"),
    "a malformed prompt": (f"{PPO} --prompts malformed.jsonl", "malformed.jsonl:2: not valid JSON", "JSON object"),
    "empty responses": (
        f"{SFT} --data empty-responses.jsonl",
        "empty-responses.jsonl:1: 9 of 9 rows are unusable: 9 empty responses",
        "are the file and its columns the ones you meant?",
    ),
    "identical pairs": (
        f"{REWARD} --data identical.jsonl",
        "identical.jsonl:1: 9 of 9 rows are unusable: 9 identical pairs",
        "are the file and its columns the ones you meant?",
    ),
    "other columns": (f"{SFT} --data columns.jsonl", "columns.jsonl:1: no known format has", "`prompt` and"),
    "no rankings": (f"{REWARD} --data good.jsonl", "good.jsonl: the format `demonstrations`", "`chosen`"),
    "a row that is too short": (
        f"{SFT} --data short.csv",
        "short.csv:3: has 1 cells, but the header has 2",
        "is quoted",
    ),
    "a key twice": (f"{SFT} --data twice.jsonl", "twice.jsonl:1: not valid JSON: the key 'prompt' stands", "one JSON"),
    "a preamble that all share": (
        f"{SFT} --data preamble.jsonl",
        "hygiene: more than half of 20 different prompts are dropped: kept 1 of 20",
        "set `hygiene.shared_prefix` to 0",
    ),
    "answers as prompts": (
        f"{PPO} --prompts transcripts.jsonl",
        "transcripts.jsonl:1: 9 of 9 rows are unusable: 9 prompts that hold their answer already",
        "`columns: {prompt: text}`",
    ),
    "a saved data set that leads out": (
        f"{SFT} --data ./saved",
        "saved/state.json: '../good.jsonl' is not the",
        "save the",
    ),
    "no rows": (f"{SFT} --data void.jsonl", "void.jsonl: holds no rows", "one row or more"),
    "a single prompt": (f"{SFT} --data one.jsonl", "validation_share: 1 group of prompts", "`validation`"),
    "missing text": (
        f"{SFT} --pretrain_text gone.txt --pretrain_share 0.1",
        "gone.txt: there is no such file",
        "a file that exists",
    ),
}
CHECKPOINTS = {
    "no such run": (f"{SFT} --model ./nowhere", "./nowhere: no such directory", "give a run directory"),
    "no name": (f"{SFT} --model what?", "what?: is neither a directory here nor a hub name", "the path of a run"),
    "an empty run": (f"{SFT} --model papers", "papers: holds neither config.json nor", "train it again"),
    "a hub model": (
        f"{SFT} --model owner/model",
        "owner/model: is not a directory here nor in the hub cache, and HF_HUB_OFFLINE is set",
        "give the directory of a model",
    ),
    "a hub model for rewards": (
        f"{REWARD} --model owner/model",
        "owner/model: is not a directory",
        "give the directory",
    ),
    "a hub model under an adapter": (
        f"{SFT} --model based-on-hub",
        "based-on-hub: its base model owner/base is not a directory here",
        "adapter_config.json",
    ),
    "half a model": (f"{SFT} --model half", "half: has no weights for lm_head.weight", "causal language model"),
    "a torn file": (f"{SFT} --model torn", "torn/model.safetensors: is damaged: ", "copy the file again"),
    "half an adapter": (
        f"{SFT} --model half-adapter",
        "half-adapter: holds adapter_config.json without adapter_model.safetensors",
        "copy or train the adapter again",
    ),
    "an adapter whose base has moved": (
        f"{SFT} --model moved",
        "moved: its base model is not at /gone/base any more",
        "write its new place into moved/adapter_config.json",
    ),
    "a reward model to fine-tune": (
        f"{SFT} --model reward",
        "reward: is a reward model, not a policy",
        "give a policy",
    ),
    "a reward model as policy": (f"{PPO} --model reward", "reward: is a reward model, not a policy", "give a policy"),
    "a value model as policy": (f"{REWARD} --model value", "value: is a value model, not a policy", "give a policy"),
    "a policy as reward model": (f"{PPO} --reward_model sft", "sft: is a policy model, not a reward", "give a reward"),
    "a base as reward model": (f"{PPO} --reward_model base", "base: has no scalar head", "a run of `heed reward`"),
    "another template": (
        f"{PPO} --reward_model plain",
        "plain: was trained with template plain, but sft with dialogue",
        "give a model that was trained from sft",
    ),
    "an adapter of other weights": (
        f"{REWARD} --model orphan-sft",
        "orphan-sft: its adapter was trained on weights ",
        "use the base model that the adapter was trained on",
    ),
    "a reward adapter of other weights": (
        f"{PPO} --reward_model orphan-reward",
        "orphan-reward: its adapter was trained on weights ",
        "use the base model that the adapter was trained on",
    ),
    "an external hub model": (
        f"{PPO} --reward_model= --external_reward.model owner/judge",
        "owner/judge: cannot be loaded",
        "give the directory of a model",
    ),
    "an external model of two numbers": (
        f"{PPO} --reward_model= --external_reward.model base",
        "base: gives 2 numbers a text, not 1",
        "num_labels 1",
    ),
}
TOGETHER = {
    "a finished run": (f"{SFT} --output ended", "output: ended holds a finished run", "add --overwrite"),
    "a finished run of rewards": (f"{REWARD} --output ended", "output: ended holds a finished run", "add --overwrite"),
    "somebody's files": (
        f"{REWARD} --output papers",
        "output: papers holds files that are not a run's",
        "new directory",
    ),
    "a file as output": (f"{PPO} --output good.jsonl", "output: good.jsonl is a file", "choose a directory"),
    "no reward model": (f"{PPO} --reward_model=", "reward_model: one reward model is needed", "external_reward.model"),
    "minibatch": (f"{PPO} --batch 8 --minibatch 16", "minibatch: 16 is more than batch 8", "make it smaller"),
    "no text for ptx": (f"{PPO} --ptx.coef 1", "ptx.text: is empty", "name text files"),
    "no room": (f"{PPO} --sampling.max_new_tokens 64", "sampling.max_new_tokens: 64 leaves no room", "lower it to 32"),
    "no such device": (f"{SFT} --device tpu7", "device: 'tpu7' is not a device", "use auto, cpu"),
}
CASES = {**WITHOUT_TORCH, **FILES, **CHECKPOINTS, **TOGETHER}
READ = re.compile(
    r"read   | {7}[\d,]+ rows as |([^ ]+: )?kept |(training|held-out|split): "
)  # said of good data before the mistake


def everything_below(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_two_lines_exit_2_and_no_trace(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    command, first, hint = CASES[case]
    before = everything_below(here)
    assert cli.main(command.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    *progress, what, help_ = told.err.splitlines()
    assert what.startswith(first)
    assert help_.startswith("hint: ")
    assert hint in help_
    assert all(READ.match(line) for line in progress)
    assert not (here / "out").exists()
    assert everything_below(here) == before


@pytest.mark.parametrize("case", ["an unknown setting beside a recipe", "a wrong type in a group", "a missing file"])
def test_without_torch(place: Path, case: str) -> None:
    command, first, _ = WITHOUT_TORCH[case]
    code = f"import sys, heed.cli; print(heed.cli.main({command.split()}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith(first)
    assert done.stderr.count("\n") == 2
