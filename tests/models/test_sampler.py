"""The sampler's parts, each beside its slow twin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from heed.batches import PromptBatch, Responses
from heed.models import policy, readout, sampler, step_attention
from heed.models.cache import RoomyLayer
from heed.models.checkpoint import open_checkpoint
from heed.models.packed import packed_product
from heed.models.policy import Policy
from heed.models.readout import PackedHead
from heed.models.sampler import draw
from heed.models.step_attention import stepping
from heed.models.trunk import Trunk


def sampled(trunk: Trunk, prompts: PromptBatch, tokens: int = 24, copies: int = 3) -> Responses:
    return Policy(trunk).generate(prompts, tokens, 1.5, torch.Generator().manual_seed(3), copies)


# ── the draw ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vocab", [1, 2, 7, 97, 256, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_token_is_drawn_as_often_as_its_probability_says(vocab: int, temperature: float) -> None:
    """200,000 draws a case: every count within 5 standard deviations, and its log-probability that of the softmax."""
    n, generator = 200_000, torch.Generator().manual_seed(vocab)
    logits = 3 * torch.randn(1, vocab, generator=generator)
    noise = torch.rand(n, 2, generator=generator)
    expected = (logits.double() / temperature).log_softmax(dim=-1)[0]
    tokens, logprobs = draw(logits.repeat(n, 1), temperature, noise)
    assert_close(logprobs.double(), expected[tokens], atol=1e-5, rtol=0)
    p = expected.exp()
    z = (torch.bincount(tokens, minlength=vocab) - n * p) / (n * p * (1 - p)).sqrt().clamp(min=1)
    assert z.abs().max() < 5


@pytest.mark.parametrize("edge", [0.0, 1.0])  # no number is 1, but its product with a sum may be the sum
def test_what_has_no_probability_is_never_drawn(edge: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for vocab in (5, 64, 90):
        logits = torch.randn(500, vocab, generator=generator)
        impossible = torch.rand(500, vocab, generator=generator) < 0.6
        impossible[:, :2] = impossible[:, -2:] = True
        impossible[:, 2] = False
        tokens, logprobs = draw(logits.masked_fill(impossible, -torch.inf), 1.0, torch.full((500, 2), edge))
        assert not impossible.gather(1, tokens[:, None]).any()
        assert logprobs.isfinite().all()


def test_a_rare_token_has_its_own_probability() -> None:
    """Tokens of probability 1e-6: two million draws from the 4e-5 of the numbers that choose a piece of theirs."""
    logits = torch.tensor([[0.0] + [-13.815510557964274] * 8])  # ln 1e-6
    noise = torch.rand(2_000_000, 2, generator=torch.Generator().manual_seed(1))
    noise[:, 0] = 1 - noise[:, 0] * 4e-5
    tokens, _ = draw(logits.repeat(len(noise), 1), 1.0, noise)
    counts = torch.bincount(tokens, minlength=9)[3:] / len(noise) * 4e-5
    assert_close(counts, torch.full((6,), 1e-6), rtol=0.05, atol=0)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_the_same_whatever_others_do(trunk: Trunk, prompts: PromptBatch) -> None:
    """More ends of text, so that rows leave: what the others write does not change."""
    whole = sampled(trunk, prompts, copies=40)
    trunk.stop_ids = {0, *range(2, 12)}
    shorter = sampled(trunk, prompts, copies=40)
    lengths = shorter.lengths.tolist()
    assert len(set(lengths)) > 10
    for row, length in enumerate(lengths):
        assert shorter.tokens[row, :length].tolist() == whole.tokens[row, :length].tolist()
        assert_close(shorter.logprobs[row, :length], whole.logprobs[row, :length], atol=1e-5, rtol=0)
        assert int(shorter.tokens[row, length - 1]) in trunk.stop_ids or length == 24


def test_room_is_added_where_it_is_used_up(trunk: Trunk, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sampled(trunk, prompts)
    monkeypatch.setattr(sampler, "ROOM", 1)
    monkeypatch.setattr("heed.models.cache.GROWTH", 3)
    found = sampled(trunk, prompts)
    assert torch.equal(found.tokens, expected.tokens)
    assert_close(found.logprobs, expected.logprobs, atol=1e-5, rtol=0)


def test_prompts_may_be_read_one_by_one(trunk: Trunk, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = PromptBatch(prompts.tokens.flip(0), prompts.mask.flip(0))  # the shortest first
    expected = sampled(trunk, prompts)
    monkeypatch.setattr(sampler, "READ_AT_ONCE", 1)
    read = []
    hidden = trunk.hidden
    monkeypatch.setattr(trunk, "hidden", lambda *given: read.append(given[0].shape) or hidden(*given))
    found = sampled(trunk, prompts)
    assert [tuple(shape) for shape in read[:3]] == [(1, 5), (1, 3), (1, 1)]
    assert torch.equal(found.tokens, expected.tokens)


def test_rows_leave_a_cache_for_the_last_ones() -> None:
    layer = RoomyLayer(4)
    numbers = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 2, 3, 2)
    layer.update(numbers, -numbers)
    layer.move(torch.tensor([3, 4]), torch.tensor([0, 2]), 3)
    assert layer.keys[:, 0, 0, 0].tolist() == [3, 1, 4] and layer.values[:, 1, 2, 1].tolist() == [-3, -1, -4]
    layer.update(torch.ones(3, 2, 3, 2), torch.ones(3, 2, 3, 2))
    assert layer.keys.shape == (3, 2, 6, 2) and layer.keys[:, 0, 0, 0].tolist() == [3, 1, 4]


# ── attention of a step ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("masked", ["", "switches", "numbers", "a head each"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_attends_as_the_fused_kernel(
    groups: int, masked: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, heads, size, length = 5, 2, 8, 11
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    layer = RoomyLayer(16)
    key, value = layer.update(normal(rows, heads, length, size), normal(rows, heads, length, size + 4))
    query, module = normal(rows, heads * groups, 1, size), nn.Module()
    module.num_key_value_groups = groups
    seen = torch.rand(rows, heads * groups if masked == "a head each" else 1, 1, length, generator=generator) < 0.6
    seen[..., -1] = True
    mask = {"": None, "numbers": torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)}.get(masked, seen)
    many = [part.float().repeat_interleave(groups, dim=1) for part in (key, value)]
    expected = scaled_dot_product_attention(
        query.float(), *many, mask.float() if masked == "numbers" else mask, scale=0.2
    ).transpose(1, 2)
    monkeypatch.setattr(step_attention, "FEWEST", 0)
    monkeypatch.setattr(step_attention, "attention_forward", None)  # it must not be asked
    found, _ = step_attention.step_attention(module, query, key, value, mask, scaling=0.2, dropout=0.0)
    assert_close(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0)


def test_what_is_no_step_over_a_roomy_cache_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_attention, "FEWEST", 0)
    monkeypatch.setattr(step_attention, "attention_forward", lambda *given, **told: ("left", None))
    layer = RoomyLayer(16)
    key, value = layer.update(torch.randn(5, 2, 11, 8), torch.randn(5, 2, 11, 8))
    query, three = torch.randn(5, 2, 1, 8), torch.randn(5, 2, 3, 8)

    def left(query: Tensor, key: Tensor, value: Tensor, **told: object) -> bool:
        return step_attention.step_attention(nn.Module(), query, key, value, None, **told)[0] == "left"

    assert not left(query, key, value)
    assert left(three, key, value) and left(query, key[1:], value[1:]) and left(query, key.transpose(0, 1), value)
    assert left(query, key, value, position_bias=torch.zeros(1))
    monkeypatch.setattr(step_attention, "FEWEST", key.numel() + 1)
    assert left(query, key, value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("usual", ["sdpa", "heed_sdpa"])
def test_steps_are_attended_so_inside_the_block_only(tiny_directory: Path, dtype: torch.dtype, usual: str) -> None:
    model = Trunk.load(open_checkpoint(str(tiny_directory)), dtype, torch.device("cpu")).model
    model.set_attn_implementation(usual)
    with pytest.raises(ValueError, match="inside"), stepping(model):
        assert model.config._attn_implementation == step_attention.NAME
        raise ValueError("inside")
    assert model.config._attn_implementation == usual


# ── logits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bias", [False, True])
def test_logits_of_rounded_states_are_exact(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    """Operands are bfloat16 numbers, so their float32 product is right whatever the processor takes them for; states
    that are not rounded would be, and are not."""
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.bfloat16, torch.device("cpu"))
    head = trunk.model.get_output_embeddings()
    head.bias = nn.Parameter(torch.linspace(-1, 1, len(head.weight)).bfloat16(), requires_grad=False) if bias else None
    trunk.head = PackedHead(head)  # as of a model that is not small
    hidden = torch.randn(300, 32, generator=torch.Generator().manual_seed(0))
    asked: list[str] = []

    def product(*arguments: Any) -> Tensor:
        asked.append(torch.backends.mkldnn.matmul.fp32_precision)
        return packed_product(*arguments)

    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(readout, "packed_product", product)
    for states in (hidden.bfloat16(), hidden):
        exact = states.double() @ head.weight.double().t() + (head.bias.double() if bias else 0)
        assert_close(trunk.logits(states).double(), exact, atol=2e-6 * float(exact.abs().max()), rtol=0)
    assert asked == ["bf16", before]
    assert torch.backends.mkldnn.matmul.fp32_precision == before != "bf16"
    read = hidden.bfloat16().requires_grad_()
    (found,) = torch.autograd.grad((trunk.logits(read) * 0.5).sum(), read)
    assert_close(found, (0.5 * head.weight.float().sum(dim=0)).expand_as(found).bfloat16(), atol=0.05, rtol=0.01)


def test_only_a_model_of_some_size_has_a_packed_head(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for small, dtype, packs in [
        (True, torch.bfloat16, False),
        (False, torch.bfloat16, True),
        (False, torch.float32, False),
    ]:
        monkeypatch.setattr(readout, "is_small", lambda _, small=small: small)
        trunk = Trunk.load(open_checkpoint(str(tiny_directory)), dtype, torch.device("cpu"))
        assert isinstance(trunk.head, PackedHead) == packs


def test_weights_are_packed_while_answers_are_drawn(
    trunk: Trunk, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    @contextmanager
    def packing(body: nn.Module) -> Iterator[None]:
        seen.append(body)
        yield

    monkeypatch.setattr(policy, "packing", packing)
    sampled(trunk, prompts, 2)
    assert seen == [trunk.body]
