"""A few steps of TRL's experimental PPO on a CPU, and its last rollout in the format of `heed doctor --rollouts`.

Runs in an environment of its own with `trl` (1.12 was tried) and `peft`; heed need not be there:

    python trl_dump.py --model SFT_CHECKPOINT --prompts PROMPTS.jsonl.gz --output DIR [--fault penalty]
    heed doctor --rollouts DIR/rollouts.jsonl --model DIR/policy --reference DIR/reference --temperature 0.7

`PPOTrainer.train` is one method without a callback between rollout and update. What is needed are local variables of
it, which are read when it calls `masked_whiten` on the advantages: every log-probability is there, nothing is trained.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

FAULTS = {
    "none": "stop at end-of-text, float32, a pad token of its own",
    "penalty": "the model's own generation_config.json asks for repetition_penalty=1.1",
    "minimum": "the model's own generation_config.json asks for min_new_tokens=16",
    "pad": "the pad token is the end-of-text token",
    "bf16": "bf16 as the trainer's default is",
    "stop": "no stop token, as the trainer's default is",
}
BATCH, LONGEST_PROMPT = 64, 48


def rows(
    queries: Tensor,
    responses: Tensor,
    padding_mask: Tensor,
    lines: dict[str, Tensor],
    settings: dict[str, Any],
    eos_id: int,
    pad_id: int,
) -> Iterator[dict[str, Any]]:
    """A JSON object a response. `padding_mask` is True where TRL counts nothing; there it writes 1 into `lines`."""
    for i, (query, response) in enumerate(zip(queries, responses, strict=True)):
        yield {
            "prompt_ids": query[query != pad_id].tolist(),
            "response_ids": response.tolist(),
            "mask": (~padding_mask[i]).int().tolist(),
            **{name: line[i].masked_fill(padding_mask[i], 0).tolist() for name, line in lines.items()},
            "eos_id": eos_id,
            "pad_id": pad_id,
            "sampler": settings,
        }


@torch.no_grad()
def dump(local: dict[str, Any], directory: Path) -> None:
    """Write one rollout from the local variables of `PPOTrainer.train`, and the policy that drew it."""
    args, tokenizer, model = local["args"], local["processing_class"], local["model"]
    start, sequences = local["context_length"], local["query_responses"]
    output, _ = ppo_trainer.forward(model, sequences, tokenizer.pad_token_id)
    logits = output.logits[:, start - 1 : -1] / (args.temperature + 1e-7)
    lines = {
        "sampler_logprobs": local["logprobs"],
        "policy_logprobs": ppo_trainer.selective_log_softmax(logits, local["responses"]),
        "ref_logprobs": local["ref_logprobs"],
    }
    settings = {name: local["generation_kwargs"][name] for name in ("top_k", "top_p", "do_sample")}
    settings["temperature"] = args.temperature
    ids = tokenizer.eos_token_id, tokenizer.pad_token_id
    with (directory / "rollouts.jsonl").open("w", encoding="utf-8") as file:
        for row in rows(local["queries"], local["responses"], local["padding_mask"], lines, settings, *ids):
            file.write(json.dumps(row) + "\n")
    model.policy.save_pretrained(directory / "policy")
    tokenizer.save_pretrained(directory / "policy")


def hook(directory: Path) -> None:
    """Write every rollout just before it is learned from; the last one stays."""
    original = ppo_trainer.masked_whiten

    def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        local = sys._getframe(1).f_locals
        if shift_mean:  # the advantages; rewards are whitened without
            dump(local, directory)
        return original(values, mask, shift_mean)

    ppo_trainer.masked_whiten = masked_whiten


def load(path: str) -> Any:
    """A causal language model in float32, with its adapter merged if it has one. peft leaves what it merges frozen."""
    if (Path(path) / "adapter_config.json").exists():
        merged = AutoPeftModelForCausalLM.from_pretrained(path, dtype=torch.float32).merge_and_unload()
        return merged.requires_grad_(True)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def questions(path: str, tokenizer: Any, count: int) -> Dataset:
    """The first prompts of Alpaca that are short enough."""
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            ids = tokenizer(row["prompt"])["input_ids"]
            if row["source"] == "alpaca" and len(ids) <= LONGEST_PROMPT:
                found.append(ids)
            if len(found) == count:
                break
    return Dataset.from_dict({"input_ids": found})


def main() -> None:
    """Train with one fault or none; write `rollouts.jsonl`, `policy` and `reference`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--fault", choices=list(FAULTS), default="none")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    arguments = parser.parse_args()
    fault, directory = arguments.fault, Path(arguments.output)
    torch.manual_seed(arguments.seed)

    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = load(arguments.model)
    model.save_pretrained(directory / "reference")
    tokenizer.save_pretrained(directory / "reference")
    judges = [
        AutoModelForSequenceClassification.from_pretrained(directory / "reference", num_labels=1) for _ in range(2)
    ]
    if fault == "penalty":
        model.generation_config.repetition_penalty = 1.1
    if fault == "minimum":
        model.generation_config.min_new_tokens = 16
    if fault == "pad":
        tokenizer.pad_token = tokenizer.eos_token
    config = PPOConfig(
        output_dir=str(directory / "trainer"),
        seed=arguments.seed,
        learning_rate=arguments.learning_rate,
        total_episodes=BATCH * arguments.steps,
        per_device_train_batch_size=BATCH,
        local_rollout_forward_batch_size=32,
        response_length=48,
        stop_token=None if fault == "stop" else "eos",
        bf16=fault == "bf16",
        gradient_checkpointing=False,
        num_sample_generations=0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    asked = questions(arguments.prompts, tokenizer, BATCH * arguments.steps)
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=model,
        ref_model=load(arguments.model),
        reward_model=judges[0],
        value_model=judges[1],
        train_dataset=asked,
        eval_dataset=asked,
    )
    hook(directory)
    trainer.train()


if __name__ == "__main__":
    main()
