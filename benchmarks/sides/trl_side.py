"""TRL's side: its trainers as its documentation sets them up, stopped after each step until the next one is asked for.

`python -m sides.trl_side WORK PLACE SHAPE SETTING`, in `benchmarks/`. Without heed: it runs in an environment of its
own. SETTING is the dtype, with `-grouped` where rows of like length go together: `float32`, `bfloat16` (autocast) or
`all-bfloat16` (frozen weights too). Nothing is packed; the reward trainer cannot group.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from sides.inputs import LORA, SHAPES, Shape, rows
from sides.pace import Pace

MICROBATCH, ACCUMULATION = 8, 2


class Paced(TrainerCallback):
    """A step of the trainer each time it is asked. The PPO trainer does not tell of a step's beginning."""

    def __init__(self, pace: Pace, every_step_begins: bool) -> None:
        self.pace, self.every_step_begins = pace, every_step_begins

    def on_train_begin(self, *arguments: Any, **named: Any) -> None:
        if not self.every_step_begins:
            self.pace.begin()

    def on_step_begin(self, *arguments: Any, **named: Any) -> None:
        self.pace.begin()

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.pace.done()
        if not self.every_step_begins:
            self.pace.begin()


def ppo(place: Path, shape: Shape, output: str, pace: Pace) -> Any:
    """`trl.experimental.ppo` with LoRA on the policy; reward and value model of the same shape."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(place / "base", padding_side="left")
    arguments = PPOConfig(
        output_dir=output, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True,
        per_device_train_batch_size=shape.batch, gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=4,
        local_rollout_forward_batch_size=shape.batch, response_length=shape.response, temperature=1.0,
        num_sample_generations=0, total_episodes=1000 * shape.batch,
    )  # fmt: skip
    questions = [{"input_ids": tokenizer(row["prompt"])["input_ids"]} for row in rows(place, "prompts")]
    responses = shape.batch * shape.response

    class Counted(Paced):
        """Every row is as long as the longest prompt, and no response ends."""

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            self.pace.count(shape.batch, shape.batch * 40 // shape.shorter, responses)
            super().on_step_end(*arguments, **named)

    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(place / "base", num_labels=1, pad_token_id=1)
        for _ in range(2)
    )
    return PPOTrainer(
        arguments, processing_class=tokenizer, ref_model=None, reward_model=reward, value_model=value,
        model=AutoModelForCausalLM.from_pretrained(place / "base"), train_dataset=Dataset.from_list(questions),
        eval_dataset=Dataset.from_list(questions[:8]), peft_config=adapter("CAUSAL_LM"),
        callbacks=[Counted(pace, False)],
    )  # fmt: skip


def adapter(task: str) -> LoraConfig:
    """Rank 16 on every linear layer."""
    return LoraConfig(r=16, lora_alpha=32, target_modules=list(LORA), task_type=task, fan_in_fan_out=True)


def trainer(work: str, place: Path, setting: str, output: str, pace: Pace) -> Any:
    """`SFTTrainer` on prompts and completions, or `RewardTrainer` on pairs."""
    import trl

    kind, config, model, task, texts = {
        "sft": (trl.SFTTrainer, trl.SFTConfig, AutoModelForCausalLM, "CAUSAL_LM", "sft"),
        "reward": (trl.RewardTrainer, trl.RewardConfig, AutoModelForSequenceClassification, "SEQ_CLS", "pairs"),
    }[work]
    dtype, grouped = setting.removesuffix("-grouped"), setting.endswith("-grouped")
    arguments = config(
        output_dir=output, use_cpu=True, bf16=dtype != "float32", report_to=[], save_strategy="no", disable_tqdm=True,
        per_device_train_batch_size=MICROBATCH, gradient_accumulation_steps=ACCUMULATION, num_train_epochs=100,
        gradient_checkpointing=False, max_length=512, dataloader_pin_memory=False, logging_strategy="no",
        train_sampling_strategy="group_by_length" if grouped else "random",
    )  # fmt: skip
    options = {} if work == "sft" else {"num_labels": 1, "pad_token_id": 1}
    weights = torch.bfloat16 if dtype == "all-bfloat16" else torch.float32

    class Counting(kind):
        """The trainer, which tells what is in a batch."""

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            pace.count(*counts(work, inputs))
            return super().training_step(model, inputs, *rest, **named)

    return Counting(
        model=model.from_pretrained(place / "base", dtype=weights, **options), args=arguments,
        train_dataset=Dataset.from_list(rows(place, texts)), peft_config=adapter(task), callbacks=[Paced(pace, True)],
        processing_class=AutoTokenizer.from_pretrained(place / "base"),
    )  # fmt: skip


def counts(work: str, inputs: Any) -> tuple[int, int, int]:
    """Rows of a batch, and tokens in prompts and responses; a pair's prompt counts once."""
    mask = inputs["attention_mask"]
    tokens, batch = int(mask.sum()), len(mask)
    if work == "sft":
        answered = int((inputs["labels"] != -100).sum())
        return batch, tokens - answered, answered
    chosen, rejected = inputs["input_ids"].chunk(2)
    width = min(chosen.shape[1], rejected.shape[1])
    shared = int((chosen[:, :width] == rejected[:, :width]).long().cumprod(dim=1).sum())
    return batch // 2, shared, tokens - 2 * shared


def main() -> None:
    work, place, shape, setting = sys.argv[1], Path(sys.argv[2]), SHAPES[sys.argv[3]], sys.argv[4]
    pace = Pace(2 if work == "sft" else 1)
    with tempfile.TemporaryDirectory() as output:
        made = ppo(place, shape, output, pace) if work == "ppo" else trainer(work, place, setting, output, pace)
        made.train()


if __name__ == "__main__":
    main()
