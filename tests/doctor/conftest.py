"""A little language: the next token depends on the last one. Small enough to draw thousands of rollouts exactly, and
with faults that a sampler may have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file are found by nothing else

from ward import Ward

from heed.doctor.events import Context, Events, token_sums
from heed.doctor.statistics import Sum
from heed.doctor.suspects import Ledger, Suspects
from heed.formulas.logprobs import token_statistics
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Roles, trained_copy, value_model_from
from heed.models.scalar_head import RewardModel, new_head
from heed.models.trunk import Trunk
from heed.records import Prompt
from heed.rl.questions import Question
from heed.settings.common import AdamWSettings, DecaySettings, LoraSettings
from heed.settings.ppo import PPOSettings

VOCAB, EOS, PROMPT = 80, 0, 3

Processor = Callable[[Tensor, Tensor, int], Tensor]
"""(logits, tokens so far, step) → logits to draw from: what a fault does."""


@dataclass(frozen=True)
class Drawn:
    """Prompt and response in one row, and the mask of each."""

    tokens: Tensor
    counted: Tensor

    @property
    def context(self) -> Context:
        return Context(self.tokens, self.counted | (torch.arange(self.tokens.shape[1]) < PROMPT), self.counted)


@dataclass(frozen=True)
class Language:
    """Two tables of logits by last token: the policy that is scored, and the reference."""

    policy: Tensor
    reference: Tensor

    def draw(
        self,
        rows: int,
        generator: torch.Generator,
        process: Processor | None = None,
        steps: int = 24,
        table: Tensor | None = None,
    ) -> Drawn:
        table = self.policy if table is None else table
        tokens = torch.randint(1, VOCAB, (rows, PROMPT), generator=generator)
        alive, counted = torch.ones(rows, dtype=torch.bool), torch.zeros(rows, PROMPT, dtype=torch.bool)
        for step in range(steps):
            logits = table[tokens[:, -1]]
            logits = logits if process is None else process(logits, tokens, step)
            token = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            counted = torch.cat([counted, alive[:, None]], 1)
            tokens = torch.cat([tokens, token.masked_fill(~alive[:, None], 7)], 1)
            alive = alive & (token[:, 0] != EOS)
        return Drawn(tokens, counted)

    def logits(self, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
        """Policy's and reference's logits for each counted token, flat, and the tokens."""
        before = drawn.tokens[:, :-1][drawn.counted[:, 1:]]
        return self.policy[before], self.reference[before], drawn.tokens[drawn.counted]

    def sums(self, drawn: Drawn, generator: torch.Generator) -> dict[str, Sum]:
        policy, reference, tokens = self.logits(drawn)
        events = Events(drawn.context, (EOS,), generator=generator)
        events(policy, reference, tokens, torch.arange(len(tokens)))
        return events.sums() | token_sums(token_statistics(policy, reference, tokens), events.choices)

    def suspect(self, drawn: Drawn, ledger: Ledger) -> None:
        """Write into the ledger how well every suspect explains what was drawn."""
        policy, reference, tokens = self.logits(drawn)
        Suspects(drawn.context, (EOS,), ledger=ledger)(policy, reference, tokens, torch.arange(len(tokens)))


@pytest.fixture(scope="session")
def language() -> Language:
    """Its tokens have probabilities from 0.3 to 0.0005, end-of-text about 0.04; the reference is a little different."""
    generator = torch.Generator().manual_seed(1)
    policy = 1.3 * torch.randn(VOCAB, VOCAB, generator=generator)
    policy[:, EOS] = policy.logsumexp(1) - 3.2
    reference = policy + 0.25 * torch.randn(VOCAB, VOCAB, generator=generator)
    return Language(policy, reference)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LONGEST = 12


@pytest.fixture(scope="session")
def ward(tiny_directory: Path) -> Ward:
    """PPO on a tiny model with mild logits that ends its responses now and then; its reward is a random head."""
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    weight, eos = trunk.model.transformer.wte.weight, trunk.tokenizer.eos_token_id
    with torch.no_grad():
        weight.mul_(0.6)
        hidden = trunk.body(torch.randint(2, 258, (32, 12), generator=generator)).last_hidden_state
        usual, normaliser = hidden.mean((0, 1)), trunk.head(hidden).logsumexp(-1).mean()
        weight[eos] = (normaliser - 2.5) * usual / usual.square().sum()
    settings = PPOSettings(
        output="none", model="m", reward_model="r", sampling={"max_new_tokens": LONGEST, "batch": 512}, batch=64,
        minibatch=32, microbatch=64, epochs=1, critic_warmup=0, warmup_steps=0,
        value_optimizer=AdamWSettings(learning_rate=1e-2, eps=1e-5),
        optimizer=DecaySettings(learning_rate=1e-2, schedule="constant", eps=1e-5),
    )  # fmt: skip
    torch.manual_seed(0)
    reference, lora = Policy(trunk, None), LoraSettings(rank=4, alpha=8)
    policy = trained_copy(reference, "policy", lora)
    reward = RewardModel(trunk, None, new_head(trunk.width, generator).requires_grad_(False))
    roles = Roles(policy, reference, reward, value_model_from(reward, trained_copy(reference, "value", lora)))
    lengths = torch.randint(2, 9, (600,), generator=generator).tolist()
    prompts = [torch.randint(2, 258, (length,), generator=generator).tolist() for length in lengths]
    questions = [Question(Prompt(()), tokens) for tokens in prompts]
    return Ward(roles, settings, cast(Any, None), questions, episodes=160)
