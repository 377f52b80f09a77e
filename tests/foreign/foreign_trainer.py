"""A trainer of somebody else: small models that it builds, teaches and samples from by code of its own.

Nothing of heed is imported here. What it writes is one JSON object a response, as docs/negative-kl.md describes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

VOCAB, EOS, PAD, WORDS = 320, 0, 1, 2  # ids from WORDS on are words
LONGEST, WIDEST = 24, 10
STEPS = 30  # from the reference to the policy

Rows = list[dict[str, Any]]
Process = Callable[[Tensor, Tensor, int], Tensor]
"""(logits of the next token, prompt and response so far, number of the token in its response) → other logits."""


@dataclass
class Models:
    """Reference, policy, and the policy as it was after each step on the way; on disk under `place`."""

    reference: nn.Module
    policy: nn.Module
    path: list[dict[str, Tensor]]
    place: Path

    def at(self, step: int) -> nn.Module:
        """The policy after so many of its steps."""
        older = copy.deepcopy(self.policy)
        older.load_state_dict(self.path[step])
        return older.eval()


def build(kind: str, seed: int, place: Path) -> Models:
    """A reference that has learned a little language, and a policy that has learned to prefer other words."""
    torch.manual_seed(seed)
    model = _gpt2() if kind == "gpt2" else _llama()
    language = torch.randn(VOCAB, 12) @ torch.randn(12, VOCAB) * 0.85  # of low rank: it is learned in seconds
    language[:, EOS], language[:, PAD] = language.logsumexp(1) - 2.8, -torch.inf
    _teach(model, language, steps=200, rate=6e-3)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    taste = language + 0.7 * torch.randn(VOCAB)  # the policy likes some words better than the reference does
    path = [_copied(model)]
    _teach(model, taste, STEPS, 4e-4, path)
    models = Models(reference, model.eval().requires_grad_(False), path, place)
    for name, one in (("reference", reference), ("policy", model)):
        one.save_pretrained(place / name)
    return models


def _gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCAB, n_positions=96, n_embd=64, n_layer=2, n_head=4, bos_token_id=EOS, eos_token_id=EOS,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
    ))  # fmt: skip


def _llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=96, bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD,
    ))  # fmt: skip


def _teach(
    model: nn.Module, language: Tensor, steps: int, rate: float, path: list[dict[str, Tensor]] | None = None
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.eval()  # no dropout: it would only make the language harder to learn
    for _ in range(steps):
        tokens = torch.randint(WORDS, VOCAB, (48, 1))
        for _ in range(23):
            tokens = torch.cat([tokens, torch.multinomial(language[tokens[:, -1]].softmax(-1), 1)], 1)
        loss = nn.functional.cross_entropy(model(tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if path is not None:
            path.append(_copied(model))


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# --- drawing --------------------------------------------------------------------------------------------------------


def unchanged(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits


@dataclass
class Drawn:
    """Prompts on the left, padded; responses on the right of them; what the sampler said of each token."""

    tokens: Tensor
    attention: Tensor
    logprobs: Tensor

    @property
    def responses(self) -> Tensor:
        return self.tokens[:, WIDEST:]

    def lengths(self) -> list[int]:
        """Tokens of each response, its end-of-text counted."""
        rows = self.responses.tolist()
        return [row.index(EOS) + 1 if EOS in row else len(row) for row in rows]


@torch.no_grad()
def draw(
    model: nn.Module, rows: int, generator: torch.Generator, process: Process = unchanged, temperature: float = 1.0
) -> Drawn:
    """One response to each of so many random prompts."""
    widths = torch.randint(2, WIDEST + 1, (rows, 1), generator=generator)
    tokens = torch.randint(WORDS, VOCAB, (rows, WIDEST), generator=generator)
    attention = (torch.arange(WIDEST) >= WIDEST - widths).long()
    tokens = tokens.masked_fill(attention == 0, PAD)
    alive, lines = torch.ones(rows, dtype=torch.bool), []
    for step in range(LONGEST):
        logits = process(forward(model, tokens, attention)[:, -1].float(), tokens, step) / temperature
        logprobs = logits.log_softmax(-1)
        token = torch.multinomial(logprobs.exp(), 1, generator=generator)
        lines.append(logprobs.gather(1, token))
        tokens = torch.cat([tokens, token.masked_fill(~alive[:, None], PAD)], 1)
        attention = torch.cat([attention, alive[:, None].long()], 1)
        alive = alive & (token[:, 0] != EOS)
    return Drawn(tokens, attention, torch.cat(lines, 1))


def forward(model: nn.Module, tokens: Tensor, attention: Tensor) -> Tensor:
    """Logits with positions from the mask."""
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = model(tokens, attention_mask=attention, position_ids=positions).logits
    return logits


# --- scoring --------------------------------------------------------------------------------------------------------


@dataclass
class Scorer:
    """How written tokens are scored; every default is right."""

    forward: Callable[[nn.Module, Tensor, Tensor], Tensor] = forward
    temperature: float = 1.0
    shift: int = 1
    line: Callable[[Tensor], Tensor] = field(default=lambda logits: logits.log_softmax(-1))
    batch: int = 16

    @torch.no_grad()
    def __call__(self, model: nn.Module, drawn: Drawn) -> Tensor:
        """`[rows, response]` log-probabilities, in batches."""
        pieces = []
        for start in range(0, len(drawn.tokens), self.batch):
            tokens, attention = (part[start : start + self.batch] for part in (drawn.tokens, drawn.attention))
            logits = self.forward(model, tokens, attention).float() / self.temperature
            scored = self.line(logits)[:, WIDEST - self.shift : tokens.shape[1] - self.shift]
            pieces.append(scored.gather(2, tokens[:, WIDEST:, None])[:, :, 0])
        return torch.cat(pieces)


def written(drawn: Drawn, **lines: Tensor) -> Rows:
    """A row for each response, with columns of log-probabilities."""
    rows = []
    for i, length in enumerate(drawn.lengths()):
        prompt = drawn.tokens[i, :WIDEST][drawn.attention[i, :WIDEST] == 1].tolist()
        row = {"prompt_ids": prompt, "response_ids": drawn.responses[i, :length].tolist(), "mask": [1] * length,
               "eos_id": EOS, "pad_id": PAD}  # fmt: skip
        rows.append(row | {name: line[i, :length].tolist() for name, line in lines.items()})
    return rows


def rollout(models: Models, rows: int, seed: int, process: Process = unchanged, **changes: Any) -> Rows:
    """What the trainer writes down. `changes`: sampler, reference (models), temperature (of all), drawn_at (of the
    sampler alone), scorer (of the policy), ref_scorer."""
    generator = torch.Generator().manual_seed(seed)
    temperature = changes.get("temperature", 1.0)
    sampler, drawn_at = changes.get("sampler", models.policy), changes.get("drawn_at", temperature)
    drawn = draw(sampler, rows, generator, process, drawn_at)
    scorer = changes.get("scorer", Scorer(temperature=temperature))
    ref_scorer = changes.get("ref_scorer", Scorer(temperature=temperature, batch=24))
    torch.manual_seed(seed)  # of dropout
    return written(
        drawn, sampler_logprobs=drawn.logprobs, policy_logprobs=scorer(changes.get("policy", models.policy), drawn),
        ref_logprobs=ref_scorer(changes.get("reference", models.reference), drawn),
    )  # fmt: skip


def write(rows: Rows, path: Path) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
