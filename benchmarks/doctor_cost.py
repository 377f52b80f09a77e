"""What the doctor's live checks cost: the same PPO step with and without them, in turn, in one process.

Weights are random and learning rates next to 0, so that every step does the same work; only the checks differ.
Two shares are printed, medians over pairs of steps with 95 % bootstrap intervals: `inside`, what the checks took within
a step over the rest of that step, and `beside`, a step with them over its twin without. Seconds are the processor's, so
that other programs on the machine count less; on an accelerator they would miss its work.
`python benchmarks/doctor_cost.py [pocket] [gpt2]`
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from heed.batches import PromptBatch, Responses
from heed.data.template import Template
from heed.doctor import weights
from heed.formulas.advantages import shaped_rewards
from heed.models.policy import Observer, Policy
from heed.models.roles import Roles, trained_copy, value_model_from
from heed.models.scalar_head import RewardModel, new_head
from heed.models.trunk import Trunk
from heed.records import Prompt, Turn
from heed.rl.questions import Question
from heed.rl.rollout import rollout_metrics
from heed.settings.common import AdamWSettings, AdapterSettings, DecaySettings, SamplingSettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo
from heed.training.describe import host
from heed.training.randomness import seed_everything

BAR = 0.05


@dataclass(frozen=True)
class Shape:
    """A model and a batch; `steps` pairs are timed after one that is not."""

    layers: int
    width: int
    heads: int
    vocab: int
    batch: int
    prompt: int
    response: int
    steps: int


SHAPES = {
    "pocket": Shape(layers=4, width=128, heads=8, vocab=330, batch=128, prompt=16, response=24, steps=12),
    "gpt2": Shape(layers=12, width=768, heads=12, vocab=50_257, batch=8, prompt=32, response=32, steps=4),
}


def roles_of(shape: Shape) -> Roles:
    """One frozen trunk of random weights with an adapter for every role."""
    words = ["<|endoftext|>", "<|pad|>", *(f"w{i}" for i in range(shape.vocab - 2))]
    text = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|pad|>"))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, eos_token=words[0], pad_token=words[1])
    config = GPT2Config(
        vocab_size=shape.vocab, n_positions=128, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )  # fmt: skip
    trunk = Trunk(GPT2LMHeadModel(config).eval().requires_grad_(False), tokenizer, "random")
    lora = AdapterSettings(rank=16)
    reference = trained_copy(Policy(trunk), "reference", lora)
    body = trained_copy(reference, "reward", lora)
    reward = RewardModel(trunk, body.adapter, new_head(trunk.width, torch.Generator().manual_seed(0)))
    value = value_model_from(reward, trained_copy(Policy(trunk, "reward"), "value", lora))
    return Roles(trained_copy(reference, "policy", lora), reference, reward, value)


class Clock:
    """Seconds of the processor spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose seconds are added up."""

        def run(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.process_time() - started

        return run


class Bench:
    """PPO steps of one shape."""

    def __init__(self, shape: Shape, place: Path) -> None:
        self.shape, self.roles = shape, roles_of(shape)
        still = DecaySettings(learning_rate=1e-12, schedule="constant")
        self.settings = PPOSettings(
            model="random", reward_model="random", output=str(place), batch=shape.batch, minibatch=shape.batch // 4,
            microbatch=shape.batch, epochs=2, critic_warmup=0, warmup_steps=0, optimizer=still,
            value_optimizer=AdamWSettings(learning_rate=1e-12, eps=1e-5),
            sampling=SamplingSettings(max_new_tokens=shape.response, batch=shape.batch),
        )  # fmt: skip
        nothing = cast(Any, None)  # the models are here already
        inputs = ppo.Inputs(nothing, nothing, Template.named("plain"), nothing, [], [], None)
        self.generator = torch.Generator()
        with patch.object(ppo, "load", lambda *_: (self.roles, None)):
            self.ppo = ppo.prepare(self.settings, inputs, torch.device("cpu"), self.generator)
        self.doctor = ppo.live_doctor(self.settings, self.roles, place)
        self.step, self.clock = 0, Clock()

    def seconds(self, pair: int, watched: bool) -> float:
        """One step; both steps of a pair draw the same responses to the same prompts."""
        timed = self.clock.timed
        self.generator.set_state(seed_everything(pair).get_state())
        self.doctor.drawn_with = weights.fingerprint(self.doctor.policy_weights)
        questions = [self._question(self.generator) for _ in range(self.shape.batch)]
        started = time.process_time()
        if watched:
            self.step += 1
            rollout = self.ppo.worker.collect(questions, self._observers)
            timed(self.doctor.examine)(self.step, rollout)
        else:
            rollout = self.ppo.worker.collect(questions)
        scored = rollout.scored
        rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, 0.05)
        metrics = rollout_metrics(rollout, rewards, 0.05) | self.ppo.update(1, rollout, rewards)
        if watched:
            timed(self.doctor.follow)(self.step, metrics)
        return time.process_time() - started

    def _observers(self, prompts: PromptBatch, responses: Responses) -> tuple[Observer, ...]:
        observers = self.clock.timed(self.doctor.observers)(prompts, responses)
        return tuple(self.clock.timed(observer) for observer in observers)

    def _question(self, generator: torch.Generator) -> Question:
        length = int(torch.randint(self.shape.prompt // 2, self.shape.prompt + 1, (1,), generator=generator))
        tokens = torch.randint(2, self.shape.vocab, (length,), generator=generator).tolist()
        return Question(Prompt((Turn("user", "-"),)), tokens)

    def pairs(self) -> Iterator[tuple[float, float, float]]:
        """Seconds (without, with, in) the checks; which comes first changes from pair to pair."""
        for pair in range(self.shape.steps + 1):
            self.clock.seconds = 0.0
            order = (False, True) if pair % 2 else (True, False)
            timed = {watched: self.seconds(pair, watched) for watched in order}
            if pair:
                yield timed[False], timed[True], self.clock.seconds


def measured(name: str) -> dict[str, object]:
    """Seconds and shares of a shape."""
    with tempfile.TemporaryDirectory() as place:
        pairs = np.array(list(Bench(SHAPES[name], Path(place)).pairs()))
    without, watched, checks = pairs.T
    inside = median(checks / (watched - checks))
    return {
        "shape": name, "pairs": len(pairs), "step_s": round(float(np.median(without)), 3),
        "checks_s": round(float(np.median(checks)), 4), "inside": inside, "beside": median(watched / without - 1),
        "under_the_bar": inside[0] < BAR,
    }  # fmt: skip


def median(shares: NDArray[np.float64]) -> tuple[float, float, float]:
    """The median, and the bootstrap interval of it."""
    draws = np.random.default_rng(0).integers(len(shares), size=(2000, len(shares)))
    low, high = np.quantile(np.median(shares[draws], axis=1), [0.025, 0.975])
    return round(float(np.median(shares)), 4), round(float(low), 4), round(float(high), 4)


def main() -> None:
    for name in sys.argv[1:] or SHAPES:
        print(json.dumps(measured(name)), flush=True)
    print(json.dumps(host()))


if __name__ == "__main__":
    main()
