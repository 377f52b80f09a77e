from __future__ import annotations

from pathlib import Path
from threading import current_thread, main_thread

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2LMHeadModel

from heed.models.answers import answer, divergence, left_padded, score_answers
from heed.models.policy import Policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.models.text_loss import text_loss
from heed.models.trunk import Trunk
from heed.rows.threads import RowThreads
from heed.settings.common import LoraSettings, SamplingSettings

PROMPTS = [[40, 41, 42, 43], [50], [60, 61], [40, 41, 42, 43], [70, 71, 72]]
SAMPLING = SamplingSettings(max_new_tokens=6, batch=2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def moved(trunk: Trunk) -> Policy:
    """A policy with an adapter that does something."""
    policy = trained_copy(Policy(trunk), "moved", LoraSettings(rank=4))
    for parameter in policy.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(3))
    return policy


def test_left_padding() -> None:
    batch = left_padded([[5, 6], [7]], 1, torch.device("cpu"))
    assert batch.tokens.tolist() == [[5, 6], [1, 7]]
    assert batch.mask.tolist() == [[True, True], [False, True]]


def test_answers_stand_with_their_prompts(trunk: Trunk) -> None:
    """Whatever the order of drawing: the likeliest continuation of a prompt is the same in every batch and copy."""
    greedy = SamplingSettings.model_construct(max_new_tokens=6, temperature=0, batch=2)
    told: list[int] = []
    found = answer(Policy(trunk), PROMPTS, greedy, seeded(), copies=3, answered=told.append)
    assert told == [2, 4, 5]
    assert len(found.texts) == 15
    assert found.prompts.mask.sum(dim=1).tolist() == [length for prompt in PROMPTS for length in [len(prompt)] * 3]
    for i, prompt in enumerate(PROMPTS):
        alone = answer(Policy(trunk), [prompt], greedy, seeded())
        for copy in range(3):
            assert found.texts[3 * i + copy] == alone.texts[0]
            assert found.finished[3 * i + copy] == alone.finished[0]
            row = found.prompts.tokens[3 * i + copy][found.prompts.mask[3 * i + copy]]
            assert row.tolist() == prompt


def test_same_seed_same_answers_and_copies_differ(trunk: Trunk) -> None:
    first, second = (answer(Policy(trunk), PROMPTS, SAMPLING, seeded(7), copies=4) for _ in range(2))
    assert first.texts == second.texts
    assert torch.equal(first.responses.tokens, second.responses.tokens)
    assert answer(Policy(trunk), PROMPTS, SAMPLING, seeded(8), copies=4).texts != first.texts
    assert len(set(first.texts[:4])) > 1


def test_threads_draw_the_same_answers(moved: Policy) -> None:
    """Batches have random numbers of their own, and the weights of the adapter while any thread draws."""
    prompts = [[40 + i % 7, 50 + i % 3] for i in range(60)]
    found = []
    for count in (1, 2, 3):
        moved.trunk.threads = RowThreads(count)
        told: list[tuple[int, bool]] = []
        found.append(
            answer(moved, prompts, SamplingSettings(max_new_tokens=12, batch=8), seeded(4), 2,
                   lambda done, told=told: told.append((done, current_thread() is main_thread())))
        )  # fmt: skip
        assert told == [(done, True) for done in (8, 16, 24, 32, 40, 48, 56, 60)]
    for other in found[1:]:
        assert torch.equal(other.responses.tokens, found[0].responses.tokens)
        assert_close(other.responses.logprobs, found[0].responses.logprobs, atol=1e-6, rtol=0)


def test_batches_have_different_random_numbers_and_so_has_the_next_call(trunk: Trunk) -> None:
    generator = seeded(5)
    alike = SamplingSettings(max_new_tokens=6, batch=4)
    first, second = (answer(Policy(trunk), [[40, 41]] * 8, alike, generator).responses.tokens for _ in range(2))
    assert not torch.equal(first[:4], first[4:])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_while_drawing_is_raised_and_the_weights_are_put_back(
    moved: Policy, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    moved.trunk.threads, before = RowThreads(count), moved.trunk.plain_state()
    monkeypatch.setattr(moved.trunk, "logits", out_of_memory)
    with pytest.raises(MemoryError):
        answer(moved, PROMPTS, SAMPLING, seeded())
    assert all(torch.equal(weight, before[name]) for name, weight in moved.trunk.plain_state().items())


def test_threads_change_no_score_and_no_divergence(trunk: Trunk, moved: Policy) -> None:
    """Policy and judge are two adapters of one trunk; sizes leave one piece, several, and more rows than fit."""
    body = trained_copy(moved, "judge", LoraSettings(rank=4))
    for parameter in body.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(6))
    model = RewardModel(trunk, body.adapter, new_head(trunk.width, seeded()).requires_grad_(False))
    answers = answer(moved, [[40 + i] * (1 + i % 5) for i in range(30)], SAMPLING, seeded())
    with torch.no_grad(), model.active():
        expected = model.score_responses(answers.prompts, answers.responses)
    for size in (4, 30, 100):
        found = []
        for count in (1, 2, 3):
            trunk.threads = RowThreads(count)
            with trunk.active(None):
                apart = divergence(moved, Policy(trunk), answers, 0.7, size)
                found.append(torch.stack([score_answers(model, answers, size), apart.exact, apart.k1]))
        assert (found[0][1] > 0).all()
        assert_close(found[0][0], expected, atol=1e-5, rtol=1e-6)
        for other in found[1:]:
            assert_close(other, found[0], atol=2e-5, rtol=1e-6)


def test_finished_is_the_end_of_text_token(trunk: Trunk) -> None:
    found = answer(Policy(trunk), PROMPTS * 10, SamplingSettings(max_new_tokens=30), seeded())
    rows = zip(found.responses.tokens, found.lengths, found.finished, strict=True)
    assert all((row[length - 1] == 0) == finished for row, length, finished in rows)
    assert len(set(found.finished)) == 2  # of 50 some end themselves and some do not


def test_divergence_of_a_policy_from_itself_is_exactly_0(moved: Policy) -> None:
    answers = answer(moved, PROMPTS, SAMPLING, seeded())
    found = divergence(moved, moved, answers, 0.7, size=2)
    assert found.exact.tolist() == found.k1.tolist() == [0.0] * 5


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_divergence_by_hand(trunk: Trunk, moved: Policy, temperature: float) -> None:
    answers = answer(moved, PROMPTS, SAMPLING, seeded())
    found = divergence(moved, Policy(trunk), answers, temperature, size=2)
    policy, reference = trunk.merged_copy("moved").model, trunk.merged_copy(None).model
    for i, prompt in enumerate(PROMPTS):
        written = answers.responses.tokens[i][answers.responses.mask[i]]
        tokens = torch.tensor([prompt + written.tolist()])
        with torch.no_grad():
            logp, ref = (
                (model(tokens).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
                for model in (policy, reference)
            )
        assert_close(found.exact[i], (logp.exp() * (logp - ref)).sum(), atol=1e-4, rtol=1e-4)
        k1 = (logp - ref).gather(1, written[:, None]).sum()
        assert_close(found.k1[i], k1, atol=1e-4, rtol=1e-4)
    assert (found.exact > 0).all()


def test_scores_come_from_the_drawn_tokens(trunk: Trunk) -> None:
    head = new_head(trunk.width, seeded()).requires_grad_(False)
    model = RewardModel(trunk, None, head, gain=0.5, bias=2.0)
    answers = answer(Policy(trunk), PROMPTS, SAMPLING, seeded())
    scores = score_answers(model, answers, size=2)
    for i, prompt in enumerate(PROMPTS):
        tokens = torch.tensor([prompt + answers.responses.tokens[i][answers.responses.mask[i]].tolist()])
        with torch.no_grad():
            hidden = trunk.model.transformer(tokens).last_hidden_state[0, -1]
        assert_close(scores[i], 0.5 * (hidden @ head.weight[0]) + 2.0, atol=1e-5, rtol=0)


def test_text_loss_is_the_cross_entropy_of_stock_transformers(tiny_directory: Path, trunk: Trunk) -> None:
    rows = torch.randint(2, 258, (5, 9), generator=seeded())
    stock = GPT2LMHeadModel.from_pretrained(tiny_directory)
    with torch.no_grad():
        expected = torch.stack([stock(row[None], labels=row[None]).loss for row in rows])
    assert_close(text_loss(Policy(trunk), rows, size=2), expected, atol=1e-4, rtol=1e-5)
