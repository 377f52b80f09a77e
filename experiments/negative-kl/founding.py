"""The negative KL of a classic set-up, and the same run with that fix alone.

TRL 0.11 draws a rollout with `generate`, which takes positions from the attention mask and does with the logits what it
was told, and then scores policy and reference by a bare forward pass: positions counted from the columns, left padding
included, no temperature, no minimum length. Here heed's own PPO runs once with exactly that and once without, all else
equal:

    python founding.py --data DATA_DIR --models RUNS_OF_ALPACA_HH --output DIR [--variants scoring right] [--steps 25]

Writes `curves.json`; of a faulty run also the rollouts of the last step in the doctor's format, with the policy that
wrote them. `curves.py` draws the figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from heed.batches import PromptBatch, Responses
from heed.clinic.live import LiveDoctor
from heed.doctor.findings import Finding
from heed.formulas.kl import k1
from heed.models.checkpoint import write_metadata
from heed.models.policy import Policy, compare, save_policy
from heed.models.roles import Roles, trained_copy
from heed.models.scalar_head import ValueModel
from heed.models.trunk import Trunk
from heed.rl.questions import Question
from heed.rl.rollout import Rollout, RolloutWorker
from heed.rows.pieces import by_length, in_pieces, take
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

TEMPERATURE = 0.7  # of the draw
SHORTEST = 20  # tokens before end-of-text may be drawn, where the draw has a minimum length
DROPOUT = 0.01  # GPT-2's own is 0.1; a model that was trained without any loses 42 nats a response by that


@dataclass(frozen=True)
class Fault:
    """What the scorer of a variant does not know: positions, the temperature, a minimum length. Or dropout in it."""

    positions: bool = False
    temperature: bool = False
    minimum: bool = False
    dropout: bool = False


VARIANTS = {
    "right": Fault(),
    "positions": Fault(positions=True),
    "temperature": Fault(temperature=True),
    "scoring": Fault(positions=True, temperature=True),
    "minimum": Fault(minimum=True),
    "dropout": Fault(dropout=True),
    "classic": Fault(positions=True, temperature=True, minimum=True),
}


class BareTrunk(Trunk):
    """A trunk whose forward pass without a cache takes positions from the columns of a left-padded batch.

    `longest` is the width of that batch: a row of n tokens has longest − n pads before it, and begins at that position.
    """

    def __init__(self, trunk: Trunk) -> None:
        self.__dict__ = dict(trunk.__dict__)  # the same weights, adapters and all
        self.longest = 0

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        if cache is not None:
            return super().hidden(tokens, mask, cache)
        pads = self.longest - mask.sum(dim=1, keepdim=True)
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0) + pads
        output = self.body(input_ids=tokens, attention_mask=mask.long(), position_ids=positions)
        return output.last_hidden_state


class ForgetfulTrunk(Trunk):
    """A trunk that was left in training mode: dropout in every forward pass without a cache."""

    def __init__(self, trunk: Trunk) -> None:
        self.__dict__ = dict(trunk.__dict__)

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        if cache is not None:
            return super().hidden(tokens, mask, cache)
        drops = [module for module in self.model.modules() if isinstance(module, nn.Dropout)]
        for module in drops:
            module.p = DROPOUT
        self.model.train()
        hidden = super().hidden(tokens, mask)
        self.model.eval()
        return hidden


class SlowToEnd(Trunk):
    """A trunk to draw from, whose first `SHORTEST` logits after a prompt leave no room for end-of-text."""

    def __init__(self, trunk: Trunk) -> None:
        self.__dict__ = dict(trunk.__dict__)
        self.written = 0

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        self.written = self.written if tokens.shape[1] == 1 else 0  # a prompt is read: the next batch begins
        return super().hidden(tokens, mask, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        logits, self.written = super().logits(hidden), self.written + 1
        return (
            logits.index_fill(1, torch.tensor([self.tokenizer.eos_token_id]), -torch.inf) if self.is_short else logits
        )

    @property
    def is_short(self) -> bool:
        return self.written <= SHORTEST


@dataclass(frozen=True)
class Sampler(Policy):
    """A policy that is drawn from at `TEMPERATURE`, whatever it is scored at, and perhaps with a minimum length."""

    minimum: bool = False

    def generate(
        self, prompts: PromptBatch, max_new_tokens: int, temperature: float, *rest: Any, **options: Any
    ) -> Responses:
        policy = Policy(SlowToEnd(self.trunk) if self.minimum else self.trunk, self.adapter)
        return policy.generate(prompts, max_new_tokens, TEMPERATURE, *rest, **options)


class Notebook:
    """What a run measures beside its own metrics, step by step: the KL of the distribution that was drawn from."""

    def __init__(self, settings: PPOSettings, faulty: bool) -> None:
        self.settings, self.faulty = settings, faulty
        self.rows: list[dict[str, float]] = []
        self.named: list[str] = []
        self.right: Roles | None = None
        self.scorer: Policy | None = None

    def load(self, fault: Fault, original: Any, *arguments: Any) -> tuple[Roles, None]:
        """The roles of heed's PPO, with a value model whose head is zero, and the fault in policy and reference."""
        roles: Roles = original(*arguments)[0]
        self.right = roles
        body = trained_copy(roles.reference, "critic", self.settings.lora)
        head = nn.Linear(body.trunk.width, 1, bias=False).requires_grad_(False)
        nn.init.zeros_(head.weight)
        value = ValueModel(body.trunk, body.adapter, head)
        policy, reference = roles.policy, roles.reference
        if fault.positions:
            bare = BareTrunk(roles.policy.trunk)
            policy, reference = replace(policy, trunk=bare), replace(reference, trunk=bare)
        if fault.dropout:
            policy = replace(policy, trunk=ForgetfulTrunk(policy.trunk))
        self.scorer = policy = Sampler(policy.trunk, policy.adapter, fault.minimum)
        return replace(roles, policy=policy, reference=reference, value=value), None

    def measure(self, step: int, taken: Rollout) -> None:
        """Score the rollout once more, rightly, and write down both KLs."""
        assert self.right is not None
        exact, per_response = 0.0, k1(taken.scored.logprobs, taken.scored.ref_logprobs).sum(dim=1)
        for rows in by_length(taken.prompts, taken.responses, 16):
            piece = take(taken.prompts, taken.responses, rows)
            exact += float(compare(self.right.policy, self.right.reference, *piece, TEMPERATURE).exact_kl.sum())
        self.rows.append(
            {
                "step": step,
                "k1": float(per_response.mean()),
                "k1_se": float(per_response.std() / len(per_response) ** 0.5),
                "exact": exact / len(per_response),
                "score": float(taken.scores.mean()),
                "length": float(taken.responses.lengths.float().mean()),
            }
        )
        if self.faulty and step == self.settings.steps:
            self.dump(taken)

    def dump(self, taken: Rollout) -> None:
        """`rollouts.jsonl` as `docs/negative-kl.md` describes it, and the policy as it was then."""
        assert self.right is not None
        assert self.scorer is not None
        trunk, directory = self.right.policy.trunk, Path(self.settings.output)
        save_policy(self.right.policy, directory / "policy")
        about = {"kind": "policy", "stage": "ppo", "base": trunk.name, "base_hash": trunk.hash}
        write_metadata(directory / "policy", about)
        score = partial(self.scorer.logprobs, temperature=self.settings.sampling.temperature)
        with torch.no_grad(), self.scorer.active():
            again = in_pieces(taken.prompts, taken.responses, self.settings.microbatch, score)
        with (directory / "rollouts.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows_of(taken, again, trunk))


def rows_of(taken: Rollout, again: Tensor, trunk: Trunk) -> Iterator[dict[str, Any]]:
    """Ids and what the run itself recorded; nothing of the sampler's settings, which the doctor has to find out."""
    ends = {"eos_id": trunk.tokenizer.eos_token_id, "pad_id": trunk.tokenizer.pad_token_id}
    for i, mask in enumerate(taken.mask):
        yield {
            "prompt_ids": taken.prompts.tokens[i][taken.prompts.mask[i]].tolist(),
            "response_ids": taken.responses.tokens[i][mask].tolist(),
            "policy_logprobs": taken.scored.logprobs[i][mask].tolist(),
            "policy_logprobs_again": again[i][mask].tolist(),
            "ref_logprobs": taken.scored.ref_logprobs[i][mask].tolist(),
            **ends,
        }


def record(notebook: Notebook) -> type[LiveDoctor]:
    """heed's own doctor, which notes every rollout and falls silent once it has found something grave."""

    class Recorder(LiveDoctor):
        def examine(self, step: int, rollout: Rollout) -> list[Finding]:
            notebook.measure(step, rollout)
            if notebook.named:
                return []
            findings = super().examine(step, rollout)
            notebook.named += [f"{found.id} at step {step}" for found in findings if found.severity == "error"]
            return findings

        def observers(self, prompts: PromptBatch, responses: Responses) -> tuple[Any, ...]:
            return () if notebook.named else super().observers(prompts, responses)

    return Recorder


class Measuring(RolloutWorker):
    """Draws, and tells the bare trunk how wide the batch is that its scorer would be given."""

    def draw(self, questions: list[Question], generator: torch.Generator) -> tuple[PromptBatch, Responses]:
        prompts, responses = super().draw(questions, generator)
        if isinstance(self.roles.policy.trunk, BareTrunk):
            self.roles.policy.trunk.longest = int((prompts.mask.sum(dim=1) + responses.lengths).max())
        return prompts, responses


def settings_of(arguments: argparse.Namespace, variant: str) -> PPOSettings:
    """One set of settings for all variants, but for the temperature that the scorer is told."""
    prompts = f"{arguments.data}/prompts/prompts.%s.jsonl.gz"
    return PPOSettings.model_validate(
        {
            "output": f"{arguments.output}/{variant}", "overwrite": True, "seed": arguments.seed, "dtype": "float32",
            "model": f"{arguments.models}/sft", "reward_model": f"{arguments.models}/reward",
            "prompts": {"path": prompts % "train", "sources": ["alpaca"], "limit": 12000},
            "validation_prompts": {"path": prompts % "val", "sources": ["alpaca"]}, "validation_limit": 128,
            "hygiene": {"max_prompt_tokens": 48},
            "sampling": {
                "max_new_tokens": 40, "temperature": 1.0 if VARIANTS[variant].temperature else TEMPERATURE,
            },
            "steps": arguments.steps, "batch": 64, "minibatch": 32, "epochs": 2, "critic_warmup": 0, "warmup_steps": 0,
            "kl_coef": arguments.kl_coef, "missing_eos": {"mode": "none"}, "allow_biased_kl": True,
            "optimizer": {
                "learning_rate": arguments.learning_rate, "schedule": "constant", "eps": 1e-5,
            },
            "value_optimizer": {"learning_rate": 1e-3, "eps": 1e-5}, "evaluations": 2,
        }
    )  # fmt: skip


def run(arguments: argparse.Namespace, variant: str) -> dict[str, Any]:
    """One variant, start to end; returns its curve."""
    settings, fault = settings_of(arguments, variant), VARIANTS[variant]
    notebook = Notebook(settings, variant != "right")
    with ExitStack() as patches:
        for place, name, replacement in (
            (ppo, "load", partial(notebook.load, fault, ppo.load)),
            (ppo, "LiveDoctor", record(notebook)),
            (ppo, "RolloutWorker", Measuring),
        ):
            patches.enter_context(mock.patch.object(place, name, replacement))
        ppo.run(settings)
    report = json.loads((Path(settings.output) / "report.json").read_text(encoding="utf-8"))
    return {"live": notebook.named, "held_out": report["score"], "steps": notebook.rows}


def main() -> None:
    """Run the variants that were asked for, and add them to `curves.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", required=True, help="a directory with the runs `sft` and `reward`")
    parser.add_argument("--output", required=True)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["scoring", "right"])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kl-coef", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    arguments = parser.parse_args()
    file = Path(arguments.output) / "curves.json"
    curves = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for variant in arguments.variants:
        curves[variant] = run(arguments, variant)
        file.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
