from __future__ import annotations

from pathlib import Path
from threading import current_thread, main_thread

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from heed.batches import PromptBatch, Responses
from heed.models import policy as policy_module
from heed.models.policy import Policy, compare
from heed.models.trunk import Trunk
from heed.rows.pieces import in_pieces, take
from heed.rows.threads import RowThreads
from heed.settings.common import LoraSettings

LORA = LoraSettings(rank=4, alpha=8)


def disturb(policy: Policy, seed: int = 0) -> Policy:
    """Move the trained weights, so that the adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def by_hand(path: Path, prompt: list[int], response: list[int], temperature: float = 1.0) -> Tensor:
    """Log-probabilities of one response, alone and unpadded, from the stock model: the distribution after the prompt
    and i response tokens is at index len(prompt) + i − 1."""
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    logits = model(torch.tensor([prompt + response])).logits[0].detach() / temperature
    distributions = [logits[len(prompt) + i - 1].log_softmax(-1) for i in range(len(response))]
    return torch.stack([line[token] for line, token in zip(distributions, response, strict=True)])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_stock_model_without_padding(
    trunk: Trunk, tiny_directory: Path, prompts: PromptBatch, responses: Responses, temperature: float
) -> None:
    found = Policy(trunk).logprobs(prompts, responses, temperature)
    expected = torch.zeros(3, 4)
    expected[0] = by_hand(tiny_directory, [40, 41, 42, 43, 44], [70, 71, 72, 73], temperature)
    expected[1, :2] = by_hand(tiny_directory, [50, 51, 52], [80, 0], temperature)
    expected[2, :1] = by_hand(tiny_directory, [60], [0], temperature)
    assert_close(found, expected, atol=2e-5, rtol=0)


def test_positions_from_arange_would_be_wrong(trunk: Trunk, prompts: PromptBatch) -> None:
    """The guard of the test above: without positions from the mask a left-padded row reads differently."""
    with_positions = trunk.hidden(prompts.tokens, prompts.mask)[1, -1]
    without = trunk.body(input_ids=prompts.tokens, attention_mask=prompts.mask.long()).last_hidden_state[1, -1]
    assert (with_positions - without).abs().max() > 0.1


def test_more_padding_changes_nothing(trunk: Trunk, prompts: PromptBatch, responses: Responses) -> None:
    wider = PromptBatch(
        torch.cat([torch.full((3, 6), 99), prompts.tokens], dim=1),
        torch.cat([torch.zeros(3, 6, dtype=torch.bool), prompts.mask], dim=1),
    )
    policy = Policy(trunk)
    assert_close(policy.logprobs(wider, responses), policy.logprobs(prompts, responses), atol=2e-5, rtol=0)


def test_order_of_rows_changes_only_their_order(trunk: Trunk, prompts: PromptBatch, responses: Responses) -> None:
    rows = torch.tensor([2, 0, 1])
    moved = Policy(trunk).logprobs(
        PromptBatch(prompts.tokens[rows], prompts.mask[rows]),
        Responses(responses.tokens[rows], responses.mask[rows], responses.logprobs[rows]),
    )
    assert_close(moved, Policy(trunk).logprobs(prompts, responses)[rows], atol=2e-5, rtol=0)


def test_pieces_are_put_back_in_order(trunk: Trunk, prompts: PromptBatch, responses: Responses) -> None:
    policy = Policy(trunk)
    found = in_pieces(prompts, responses, 1, policy.logprobs)
    assert_close(found, policy.logprobs(prompts, responses), atol=2e-5, rtol=0)
    trimmed, answered = take(prompts, responses, torch.tensor([2]))
    assert trimmed.tokens.tolist() == [[60]] and answered.tokens.tolist() == [[0]]


def test_sampler_reports_the_logprobs_that_the_scorer_computes(trunk: Trunk, prompts: PromptBatch) -> None:
    trunk.add_adapter("policy", LORA)
    policy = disturb(Policy(trunk, "policy"))
    drawn = policy.generate(prompts, 12, 0.8, torch.Generator().manual_seed(1))
    with policy.active():
        scored = policy.logprobs(prompts, drawn, temperature=0.8).detach()
    assert drawn.mask.sum() > 12
    assert_close(scored, drawn.logprobs, atol=5e-5, rtol=0)


def test_responses_end_with_the_first_end_of_text(trunk: Trunk) -> None:
    many = PromptBatch(torch.full((256, 2), 44), torch.ones(256, 2, dtype=torch.bool))
    drawn = Policy(trunk).generate(many, 20, 3.0, torch.Generator().manual_seed(0))
    finished = drawn.finished(eos=0)
    assert 0 < finished.sum() < 256
    for tokens, mask, ended in zip(drawn.tokens.tolist(), drawn.mask.tolist(), finished.tolist(), strict=True):
        kept = [token for token, counts in zip(tokens, mask, strict=True) if counts]
        assert mask == sorted(mask, reverse=True)  # a prefix
        assert (0 in kept) == ended and 0 not in kept[:-1]
        assert set(tokens[len(kept) :]) <= {1}  # pad


def test_samples_follow_the_whole_distribution(trunk: Trunk, tiny_directory: Path) -> None:
    """20,000 first tokens against their probabilities: 258 counts, and every one within 5 standard deviations."""
    n = 20_000
    prompt = PromptBatch(torch.tensor([[40, 41]]), torch.ones(1, 2, dtype=torch.bool))
    drawn = Policy(trunk).generate(prompt, 1, 1.0, torch.Generator().manual_seed(0), copies=n)
    logits = AutoModelForCausalLM.from_pretrained(tiny_directory)(torch.tensor([[40, 41]])).logits[0, -1].double()
    p = logits.softmax(-1).detach()
    counts = torch.bincount(drawn.tokens[:, 0], minlength=258)
    z = (counts - n * p) / (n * p * (1 - p)).sqrt().clamp(min=1)
    assert z.abs().max() < 5
    assert (counts > 0).sum() > 100  # not the 50 likeliest only


def test_copies_share_the_prompt_but_not_the_draw(trunk: Trunk, prompts: PromptBatch) -> None:
    drawn = Policy(trunk).generate(prompts, 8, 1.0, torch.Generator().manual_seed(0), copies=4)
    repeated = PromptBatch(prompts.tokens.repeat_interleave(4, 0), prompts.mask.repeat_interleave(4, 0))
    assert_close(Policy(trunk).logprobs(repeated, drawn).detach(), drawn.logprobs, atol=5e-5, rtol=0)
    assert len({tuple(row) for row in drawn.tokens[:4].tolist()}) > 1


def test_temperature_zero_takes_the_likeliest_token(trunk: Trunk, prompts: PromptBatch) -> None:
    drawn = Policy(trunk).generate(prompts, 5, 0, torch.Generator().manual_seed(0))
    logits = trunk.logits(trunk.hidden(prompts.tokens, prompts.mask)[:, -1].contiguous())
    assert drawn.tokens[:, 0].tolist() == logits.argmax(-1).tolist()


def test_policy_and_reference_are_identical_at_the_start(
    trunk: Trunk, prompts: PromptBatch, responses: Responses
) -> None:
    trunk.add_adapter("reference", LORA)
    disturb(Policy(trunk, "reference"))
    trunk.copy_adapter("reference", "policy")
    scored = compare(Policy(trunk, "policy"), Policy(trunk, "reference"), prompts, responses)
    assert torch.equal(scored.logprobs, scored.ref_logprobs)
    assert scored.exact_kl.abs().max() == 0


def test_compare_agrees_with_separate_scoring(trunk: Trunk, prompts: PromptBatch, responses: Responses) -> None:
    trunk.add_adapter("policy", LORA)
    policy, reference = disturb(Policy(trunk, "policy")), Policy(trunk)
    scored = compare(policy, reference, prompts, responses, temperature=0.9)
    with policy.active():
        assert_close(scored.logprobs, policy.logprobs(prompts, responses, 0.9).detach(), atol=1e-6, rtol=0)
    with reference.active():
        assert_close(scored.ref_logprobs, reference.logprobs(prompts, responses, 0.9).detach(), atol=1e-6, rtol=0)
    assert (scored.exact_kl[responses.mask] > 0).all()
    assert (scored.exact_kl[~responses.mask] == 0).all()


@pytest.mark.parametrize("count", [1, 2])
def test_observers_see_every_token_in_order_in_one_thread(
    trunk: Trunk, prompts: PromptBatch, responses: Responses, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of 4, 2 and 1 tokens in chunks of two tokens, with the logits and tokens that belong to each."""
    monkeypatch.setattr(policy_module, "CHUNK", 2 * 258)
    trunk.threads, seen = RowThreads(count), []

    def observe(*piece: Tensor) -> None:
        assert current_thread() is main_thread()
        seen.append(piece)

    scored = compare(Policy(trunk), Policy(trunk), prompts, responses, 1.0, (observe,))
    logits, _, tokens, index = (torch.cat(column) for column in zip(*seen, strict=True))
    assert index.tolist() == list(range(7)) and len(seen) == 4
    assert tokens.tolist() == [70, 71, 72, 73, 80, 0, 0]
    chosen = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    assert_close(chosen, scored.logprobs[responses.mask], atol=1e-5, rtol=0)


def test_gradient_reaches_every_matrix_of_the_active_adapter_only(
    trunk: Trunk, prompts: PromptBatch, responses: Responses
) -> None:
    trunk.add_adapter("policy", LORA)
    trunk.add_adapter("value", LORA)
    policy = disturb(Policy(trunk, "policy"))
    with policy.trainable() as parameters, policy.active():
        policy.logprobs(prompts, responses).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in parameters.values())
    others = [p for name, p in trunk.model.named_parameters() if name not in parameters]
    assert all(parameter.grad is None for parameter in others)
    assert not any(parameter.requires_grad for parameter in trunk.model.parameters())
