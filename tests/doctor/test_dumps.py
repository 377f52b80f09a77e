"""Rollouts written by the lines that `docs/negative-kl.md` gives for TRL, from tensors as TRL has them: verdicts."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.settings.doctor import DoctorSettings
from heed.stages import doctor

EOS, PAD, TEMPERATURE, LONGEST, WIDEST = 0, 1, 0.7, 16, 6
INVALID_LOGPROB = 1.0  # what TRL writes where nothing counts
Process = Callable[[Tensor, Tensor], Tensor]
"""(logits at the temperature, tokens so far) → logits to draw from."""


@dataclass(frozen=True)
class Models:
    """Policy and reference, in memory and in `place/policy` and `place/reference`."""

    policy: Any
    reference: Any
    place: Path


@pytest.fixture(scope="module")
def models(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    place = tmp_path_factory.mktemp("dumps")
    reference = AutoModelForCausalLM.from_pretrained(tiny_directory).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    reference.transformer.wte.weight.mul_(0.5)  # milder logits
    hidden = reference.transformer(torch.randint(2, 258, (32, 12), generator=generator)).last_hidden_state
    usual, normaliser = hidden.mean((0, 1)), (reference.lm_head(hidden) / TEMPERATURE).logsumexp(-1).mean()
    reference.transformer.wte.weight[EOS] = TEMPERATURE * (normaliser - 2.5) * usual / usual.square().sum()
    policy = copy.deepcopy(reference)
    for parameter in policy.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    for name, model in (("policy", policy), ("reference", reference)):
        model.save_pretrained(place / name)
        AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(place / name)
    return Models(policy, reference, place)


def forward(model: Any, tokens: Tensor, pad: int) -> Tensor:
    """Logits as TRL's `forward` gives them: mask and positions from what is not the pad token."""
    mask = tokens != pad
    positions = mask.cumsum(1) - mask.long()
    logits: Tensor = model(tokens.masked_fill(~mask, 0), attention_mask=mask, position_ids=positions).logits
    return logits / TEMPERATURE


def unchanged(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits


def local_variables(models: Models, process: Process = unchanged, pad: int = PAD, stop: bool = True) -> dict[str, Any]:
    """What stands in `PPOTrainer.train` after a rollout: left-padded queries, responses padded after their end."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, WIDEST + 1, (96, 1), generator=generator)
    queries = torch.randint(2, 258, (96, WIDEST), generator=generator)
    queries = queries.masked_fill(torch.arange(WIDEST) < WIDEST - lengths, pad)
    tokens, drawn, alive = queries, [], torch.ones(96, dtype=torch.bool)
    for _ in range(LONGEST):
        logprobs = process(forward(models.policy, tokens, pad)[:, -1], tokens).log_softmax(-1)
        token = torch.multinomial(logprobs.exp(), 1, generator=generator)
        token = token.masked_fill(~alive[:, None], pad)
        drawn.append(logprobs.gather(1, token))
        tokens = torch.cat([tokens, token], 1)
        alive &= (token[:, 0] != EOS) | (not stop)
    responses = tokens[:, WIDEST:]
    reference = forward(models.reference, tokens, pad)[:, WIDEST - 1 : -1].log_softmax(-1)
    ended = responses == pad
    first_pad = torch.where(ended.any(1), ended.long().argmax(1), LONGEST)
    padding_mask = torch.arange(LONGEST) > (first_pad - 1)[:, None]
    return {
        "queries": queries, "responses": responses, "padding_mask": padding_mask, "json": json,
        "logprobs": torch.cat(drawn, 1).masked_fill(padding_mask, INVALID_LOGPROB),
        "ref_logprobs": reference.gather(2, responses[:, :, None])[:, :, 0].masked_fill(padding_mask, INVALID_LOGPROB),
        "processing_class": SimpleNamespace(eos_token_id=EOS, pad_token_id=pad),
        "args": SimpleNamespace(temperature=TEMPERATURE),
    }  # fmt: skip


def written(root: Path, local: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that the document's lines for TRL write."""
    text = (root / "docs" / "negative-kl.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (lines,) = (block for block in blocks if "processing_class" in block)
    file = io.StringIO()
    exec(lines, {**local, "file": file})  # the document's own words are what is tested
    return [json.loads(line) for line in file.getvalue().splitlines()]


def verdict(models: Models, rows: list[dict[str, Any]], tmp_path: Path) -> tuple[int, set[str]]:
    """Exit code and numbers of `heed doctor --rollouts … --model … --reference … --temperature 0.7`."""
    file, out = tmp_path / "rollouts.jsonl", tmp_path / "findings.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {"model": str(models.place / "policy"), "reference": str(models.place / "reference")}
    asked = DoctorSettings(rollouts=str(file), json=str(out), temperature=TEMPERATURE, device="cpu", **names)
    code = doctor.run(asked)
    return code, {found["id"] for found in json.loads(out.read_text())["findings"]}


def test_a_healthy_run_is_healthy(models: Models, root: Path, tmp_path: Path) -> None:
    rows = written(root, local_variables(models))
    ended = sum(EOS in row["response_ids"] for row in rows)
    assert 20 < ended < 90
    assert all(len(row["response_ids"]) == len(row["mask"]) == LONGEST for row in rows)
    assert sum(sum(row["mask"]) for row in rows) > 700
    assert verdict(models, rows, tmp_path) == (0, set())


def test_a_penalty_from_the_models_own_generation_config_is_named(models: Models, root: Path, tmp_path: Path) -> None:
    def penalised(logits: Tensor, tokens: Tensor) -> Tensor:
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, tokens, True)
        return torch.where(seen, torch.where(logits > 0, logits / 1.3, logits * 1.3), logits)

    assert verdict(models, written(root, local_variables(models, penalised)), tmp_path) == (3, {"NK3"})


def test_a_minimum_length_is_named(models: Models, root: Path, tmp_path: Path) -> None:
    def no_end(logits: Tensor, tokens: Tensor) -> Tensor:
        short = tokens.shape[1] < WIDEST + 12
        return logits.index_fill(1, torch.tensor([EOS]), -torch.inf) if short else logits

    assert verdict(models, written(root, local_variables(models, no_end)), tmp_path) == (3, {"NK4"})


def test_pad_that_is_end_of_text_is_named(models: Models, root: Path, tmp_path: Path) -> None:
    code, found = verdict(models, written(root, local_variables(models, pad=EOS)), tmp_path)
    assert (code, "NK9" in found) == (3, True)


def test_going_on_after_end_of_text_is_named(models: Models, root: Path, tmp_path: Path) -> None:
    code, found = verdict(models, written(root, local_variables(models, stop=False)), tmp_path)
    assert (code, found) == (3, {"NK10"})


def test_positions_are_named_where_whole_rows_were_padded_on_the_left(
    models: Models, root: Path, tmp_path: Path
) -> None:
    """TRL 0.11 padded prompt and response together, so that a short row has more pads than any prompt."""
    local = local_variables(models)
    rows = written(root, local)
    longest = max(len(row["prompt_ids"]) + sum(row["mask"]) for row in rows)
    assert longest - min(len(row["prompt_ids"]) + sum(row["mask"]) for row in rows) > 16
    for row in rows:
        count = sum(row["mask"])
        tokens = torch.tensor([row["prompt_ids"] + row["response_ids"][:count]])
        positions = torch.arange(longest - tokens.shape[1], longest)[None]
        logits = models.policy(tokens, position_ids=positions).logits / TEMPERATURE
        logprobs = logits[:, -count - 1 : -1].log_softmax(-1).gather(2, tokens[:, -count:, None])
        row["policy_logprobs"] = logprobs.flatten().tolist() + [0.0] * (LONGEST - count)
    assert verdict(models, rows, tmp_path) == (3, {"NK8"})
