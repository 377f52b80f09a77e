"""Tiny repositories under the names that `recipes/gpt2` uses, each in the files and columns of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, GPT2Config, GPT2LMHeadModel

from heed.models.checkpoint import Checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

GPT2 = "openai-community/gpt2"  # where `gpt2` has moved to
DEBERTA = "OpenAssistant/reward-model-deberta-v3-base"
ALPACA = "tatsu-lab/alpaca"
RM_STATIC = "Dahoas/rm-static"
SFT, REWARD = "someone/gpt2-sft", "someone/gpt2-reward"  # runs of heed that somebody has published
END = "<|endoftext|>"

THINGS = (
    "apple boat cloud door engine forest garden hammer island jacket kettle lamp mirror needle ocean pencil".split()
)
ASKED = ["Name a use of", "Describe", "Write a line about", "Say what is good about"]


def write_all(root: Path) -> None:
    """The four of the recipes, and two published runs."""
    write_gpt2(root / "models" / GPT2)
    write_published(root / "models")
    write_deberta(root / "models" / DEBERTA)
    write_alpaca(root / "datasets" / ALPACA)
    write_rm_static(root / "datasets" / RM_STATIC)


def write_gpt2(path: Path) -> None:
    """Random weights by the names of the real file, which has the body alone; and a byte-level BPE in the real files:
    no pad token, no class named, end-of-text last, byte 0xFF ("ÿ") an entry."""
    path.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
    entries = [*alphabet, *("".join(pair) for pair in merges), END]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(path / "tokenizer.json"))
    _write(path / "tokenizer_config.json", {"model_max_length": 1024})
    _write(path / "vocab.json", vocabulary)
    (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    end = vocabulary[END]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(entries), n_positions=256, n_embd=32, n_layer=2, n_head=2, bos_token_id=end,
            eos_token_id=end, initializer_range=0.1,
        )
    )  # fmt: skip
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(path)
    model.generation_config.save_pretrained(path)
    save_file(model.transformer.state_dict(), path / "model.safetensors", metadata={"format": "pt"})


def write_deberta(path: Path) -> None:
    """Random weights as `pytorch_model.bin` alone, as the real repository has them, and a tokenizer of words."""
    path.mkdir(parents=True)
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    words = sorted({word.strip("?.").lower() for row in alpaca_rows() for word in " ".join(row.values()).split()})
    vocabulary = {entry: i for i, entry in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(path / "tokenizer.json"))
    named = {f"{name}_token": entry for name, entry in zip(("pad", "cls", "sep", "unk", "mask"), special, strict=True)}
    _write(path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named})
    torch.manual_seed(0)
    model = DebertaV2ForSequenceClassification(
        DebertaV2Config(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
            share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
            pooler_hidden_size=32, num_labels=1, initializer_range=0.3,
        )
    )  # fmt: skip
    model.config.architectures = ["DebertaV2ForSequenceClassification"]
    model.config.save_pretrained(path)
    torch.save(model.state_dict(), path / "pytorch_model.bin")


def write_published(models: Path) -> None:
    """Untrained adapters of `gpt2`, a policy and a reward model, as `heed sft` and `heed reward` save them."""
    base = Trunk.load(Checkpoint("gpt2", str(models / GPT2)), torch.float32, torch.device("cpu"))
    trunk = Trunk(base.model, base.tokenizer, "gpt2")
    trunk.add_adapter("sft", LoraSettings(rank=2))
    trunk.copy_adapter("sft", "reward")
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_policy(Policy(trunk, "sft"), models / SFT)
    save_scalar(RewardModel(trunk, "reward", head), models / REWARD)
    about = {"template": {"name": "dialogue", "hash": ""}, "base_hash": trunk.hash}
    write_metadata(models / SFT, {"kind": "policy", **about})
    write_metadata(models / REWARD, {"kind": "reward", "reward": {"gain": 1.0, "bias": 0.0}, **about})


def write_alpaca(path: Path) -> None:
    """instruction, input, output, text; one split."""
    _write_split(path, "train", alpaca_rows())


def write_rm_static(path: Path) -> None:
    """prompt, response, chosen, rejected; train and test."""
    rows = [
        {
            "prompt": f"\n\nHuman: {row['instruction']}\n\nAssistant:",
            "response": f" {row['output']}",
            "chosen": f" {row['output']}",
            "rejected": " I do not know.",
        }
        for row in alpaca_rows()
    ]
    _write_split(path, "train", rows[16:])
    _write_split(path, "test", rows[:16])


def alpaca_rows() -> list[dict[str, str]]:
    """Sixty-four instructions, every fourth with an input."""
    asked = [(f"{asked} the {thing}.", thing) for asked in ASKED for thing in THINGS]
    rows = []
    for i, (instruction, thing) in enumerate(asked):
        given, output = "Be brief." if i % 4 == 0 else "", f"The {thing} is here, and the {thing} is mine."
        text = f"Below is an instruction.\n\n### Instruction:\n{instruction}\n\n### Response:\n{output}"
        rows.append({"instruction": instruction, "input": given, "output": output, "text": text})
    return rows


def _write_split(path: Path, split: str, rows: list[dict[str, str]]) -> None:
    (path / "data").mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path / "data" / f"{split}-00000-of-00001.parquet")


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
