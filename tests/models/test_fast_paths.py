"""Every fast path beside its slow twin: the same numbers and gradients, to the rounding of their dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig, PretrainedConfig
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.pytorch_utils import Conv1D

from heed.batches import PromptBatch, Responses
from heed.formulas.logprobs import token_logprobs
from heed.models import attention
from heed.models.activations import TanhGelu, fuse_gelu
from heed.models.attention import Attention, attends_lines, attention_forward, quicken_attention
from heed.models.checkpoint import open_checkpoint
from heed.models.chosen import chosen_logprobs
from heed.models.fused_lora import FusedLoraLinear, LoraProduct, fuse
from heed.models.line import Line, read_in_line
from heed.models.policy import Policy, compare
from heed.models.trunk import Trunk
from heed.rows.threads import RowThreads
from heed.settings.common import LoraSettings

DTYPES = [torch.float32, torch.bfloat16]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(found: Tensor, expected: Tensor, share: float) -> None:
    """Within a share of what is expected, over the whole tensor."""
    assert float((found.float() - expected.float()).norm() / expected.float().norm()) < share


def adapted(base: nn.Module, dtype: torch.dtype, dropout: float = 0.0) -> Linear:
    """A layer with a trained adapter, frozen but for it."""
    transposed = isinstance(base, Conv1D)
    model = nn.ModuleDict({"layer": base}).to(dtype).requires_grad_(False)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["layer"], lora_dropout=dropout, fan_in_fan_out=transposed)
    inject_adapter_in_model(config, model, adapter_name="one")
    layer = model["layer"]
    assert isinstance(layer, Linear)
    for seed, matrix in enumerate((layer.lora_A["one"].weight, layer.lora_B["one"].weight)):
        matrix.data = seeded(*matrix.shape, seed=seed).float()
    return layer


def forward_and_gradients(layer: Linear, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    wanted = [x, layer.lora_A["one"].weight, layer.lora_B["one"].weight]
    y = layer(x)
    return [y.detach(), *torch.autograd.grad((y.float() * seeded(*y.shape, seed=9)).sum(), wanted)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda: nn.Linear(8, 5), lambda: nn.Linear(8, 5, bias=False), lambda: Conv1D(5, 8)])
def test_fused_adapter_is_pefts(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = adapted(make(), dtype), seeded(2, 7, 8).to(dtype)
    slow = forward_and_gradients(layer, x)
    fuse(nn.ModuleList([layer]))
    fast = forward_and_gradients(layer, x)
    assert isinstance(layer, FusedLoraLinear)
    for found, expected in zip(fast, slow, strict=True):
        assert found.dtype == expected.dtype
        assert found is not fast[0] or torch.equal(found, expected) or dtype == torch.bfloat16
        near(found, expected, 1e-6 if dtype == torch.float32 else 0.01)


@pytest.mark.parametrize("why", ["dropout", "trained base", "no adapter", "two adapters"])
def test_what_is_not_understood_keeps_pefts_own_forward(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = adapted(nn.Linear(8, 5), torch.float32, dropout=0.5 if why == "dropout" else 0.0)
    layer.train(why == "dropout")
    layer.get_base_layer().requires_grad_(why == "trained base")
    if why in ("no adapter", "two adapters"):
        layer._active_adapter = [] if why == "no adapter" else ["one", "one"]
    fuse(nn.ModuleList([layer]))
    monkeypatch.setattr(LoraProduct, "apply", lambda *_: pytest.fail("the fused form was used"))
    layer(seeded(2, 8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_chosen_logprobs_are_those_of_whole_logits(dtype: torch.dtype, temperature: float) -> None:
    weight = (0.3 * seeded(40, 16) + 1).to(dtype)
    hidden = (seeded(11, 16, seed=1) - 2).to(dtype).requires_grad_()  # logits around −32
    tokens, gains = torch.arange(11) * 3, seeded(11, seed=2)
    slow = token_logprobs(hidden.float() @ weight.float().t(), tokens, temperature)
    fast = chosen_logprobs(hidden, weight, tokens, temperature, 4, lambda states: states.float() @ weight.float().t())
    assert ((fast - slow).abs() <= 2e-6 * (1 + slow.abs())).all()
    of_slow, of_fast = (torch.autograd.grad((x * gains).sum(), hidden)[0] for x in (slow, fast))
    near(of_fast, of_slow, 1e-4 if dtype == torch.float32 else 0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ratio_of_a_policy_that_has_not_moved_is_one(
    tiny_directory: Path, prompts: PromptBatch, responses: Responses, dtype: torch.dtype
) -> None:
    """Bit for bit: what is trained is what was scored, although one of them never holds all logits."""
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), dtype, torch.device("cpu"))
    trunk.add_adapter("policy", LoraSettings(rank=4))
    policy = Policy(trunk, "policy")
    for seed, parameter in enumerate(policy.parameters().values()):
        parameter.data += 0.3 * seeded(*parameter.shape, seed=seed)
    scored = compare(policy, Policy(trunk), prompts, responses)
    with policy.trainable(), policy.active():
        assert torch.equal(policy.logprobs(prompts, responses).detach(), scored.logprobs)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_torchs(masked: bool) -> None:
    parts = [seeded(2, 3, 9, 8, seed=i).bfloat16().requires_grad_() for i in range(3)]
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    mask[1, :, 1:, 0] = not masked
    exact = scaled_dot_product_attention(*(part.float() for part in parts), attn_mask=mask, scale=0.3).transpose(1, 2)
    module = nn.Module()
    found, _ = attention_forward(module, *parts, mask if masked else None, scaling=0.3)
    near(found, exact, 0.01)
    pull = seeded(*found.shape, seed=5)
    gradients = [torch.autograd.grad((y.float() * pull).sum(), parts, retain_graph=True) for y in (found, exact)]
    for fast, slow in zip(*gradients, strict=True):
        near(fast, slow, 0.02)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_as_near_to_the_truth_as_torchs_where_scores_are_large(masked: bool) -> None:
    """Of a trained model they lie around 30, where neighbouring bfloat16 numbers are 0.125 apart."""
    query, key, value = ((3 * seeded(2, 3, 40, 64, seed=i)).bfloat16() for i in range(3))
    mask = torch.ones(40, 40, dtype=torch.bool).tril()
    truth = scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=mask)
    torchs = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    found, _ = attention_forward(nn.Module(), query, key, value, mask if masked else None)
    with read_in_line(Line(torch.ones(2, 40, dtype=torch.bool))):
        flat = (part.transpose(0, 1).reshape(1, 3, 80, 64) for part in (query, key, value))
        in_line, _ = attention_forward(nn.Module(), *flat, None)
    for own in (found.transpose(1, 2), in_line.view(2, 40, 3, 64).transpose(1, 2)):
        assert (own - truth).norm() < 1.1 * (torchs - truth).norm()


@pytest.mark.parametrize("why", ["float32", "one token", "grouped heads", "long", "not causal"])
def test_other_attention_is_left_to_transformers(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (
        seeded(1, 4, 6, 8, seed=i).to(torch.float32 if why == "float32" else torch.bfloat16) for i in range(3)
    )
    module = nn.Module()
    mask = torch.ones(1, 1, 1, 6, dtype=torch.bool) if why == "one token" else None
    if why == "one token":
        query = query[:, :, -1:]
    if why == "grouped heads":
        key, value, module.num_key_value_groups = key[:, :2], value[:, :2], 2
    if why == "long":
        monkeypatch.setattr(attention, "MOST", 4 * 6 * 6 - 1)
    options = {"scaling": 0.3, "is_causal": why != "not causal"}
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
    monkeypatch.setattr(Attention, "apply", lambda *_: pytest.fail("four products were used"))
    found, _ = attention_forward(module, query, key, value, mask, **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_is_the_same_formula(dtype: torch.dtype) -> None:
    model, x = nn.ModuleDict({"act": NewGELUActivation()}), (3 * seeded(1000)).to(dtype).requires_grad_()
    slow = model["act"](x)
    fuse_gelu(model)
    assert isinstance(model["act"], TanhGelu)
    fast = model["act"](x)
    assert torch.equal(fast, slow) or dtype == torch.bfloat16
    near(fast, slow, 0.01)
    of_fast, of_slow = (torch.autograd.grad(y.float().square().sum(), x)[0] for y in (fast, slow))
    near(of_fast, of_slow, 1e-6 if dtype == torch.float32 else 0.01)


APART = [list(range(2, 9)), list(range(20, 24)), list(range(30, 41))]
ALIKE = [
    [2, 3, 4, 5, 6],
    [2, 3, 4, 5, 7, 8, 9, 10, 11],
    [20, 21],
    [2, 3, 4, 5, 7, 8, 12],  # as the second for longer than as the first
    [2, 3, 4, 5, 6],  # the first once more
    [2, 3],  # no token of its own
    [20, 21, 0],  # as the third, whose padding is token 0 too
]


@pytest.fixture(params=["gpt2", "llama"])
def directory(request: pytest.FixtureRequest, tiny_directory: Path, llama: Path) -> Path:
    """With heads of their own, and with heads that share keys."""
    return {"gpt2": tiny_directory, "llama": llama}[request.param]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_line", [True, False])
@pytest.mark.parametrize("rows", [APART, ALIKE], ids=["apart", "alike"])
def test_padded_rows_are_read_as_if_alone_with_their_gradients(
    directory: Path, dtype: torch.dtype, in_line: bool, rows: list[list[int]]
) -> None:
    trunk = Trunk.load(open_checkpoint(str(directory)), dtype, torch.device("cpu"))
    assert trunk.reads_lines
    trunk.reads_lines = in_line
    policy, width = Policy(trunk), 15
    tokens, mask = torch.ones(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (row, start) in enumerate(zip(rows, (0, 6, 2, 0, 1, 3, 4), strict=False)):  # padding on any side
        tokens[i, start : start + len(row)], mask[i, start : start + len(row)] = torch.tensor(row), True
    with policy.trainable() as parameters:
        weights = list(parameters.values())
        hidden = trunk.hidden(tokens, mask)[mask]
        alone = torch.cat(
            [trunk.hidden(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool))[0] for row in rows]
        )
        near(hidden, alone, 1e-6 if dtype == torch.float32 else 0.02)
        pull = seeded(*hidden.shape)
        fast, slow = (torch.autograd.grad((h * pull).sum(), weights, allow_unused=True) for h in (hidden, alone))
    for found, expected in zip(fast, slow, strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert_close(found, expected, atol=1e-4, rtol=1e-4) if dtype == torch.float32 else near(
                found, expected, 0.1
            )


def test_nothing_is_computed_for_padding(trunk: Trunk) -> None:
    seen: list[torch.Size] = []
    trunk.body.register_forward_pre_hook(
        lambda _, given, named: seen.append(named["input_ids"].shape), with_kwargs=True
    )
    mask = torch.tensor([[False, True, True, True], [True, True, True, True], [False, False, False, True]])
    trunk.hidden(torch.arange(12).view(3, 4), mask)
    assert seen == [(1, 8)]
    tokens, mask = torch.zeros(len(ALIKE), 12, dtype=torch.long), torch.zeros(len(ALIKE), 12, dtype=torch.bool)
    for i, row in enumerate(ALIKE):
        tokens[i, 12 - len(row) :], mask[i, 12 - len(row) :] = torch.tensor(row), True
    trunk.hidden(tokens, mask)
    assert seen[1] == (1, 5 + 5 + 2 + 1 + 1)  # rows that begin alike share their tokens, with padding
    trunk.hidden(torch.tensor([[2, 3, 4], [2, 3, 5]]), torch.ones(2, 3, dtype=torch.bool))
    assert seen[2] == (1, 4)  # and without
    few = torch.arange(2, 42).view(2, 20)
    few[:, 0] = 1
    trunk.hidden(few, torch.ones(2, 20, dtype=torch.bool))
    assert seen[3] == (2, 20)  # one token of forty is not worth it


def test_a_line_that_a_model_reads_as_one_row_is_noticed(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a model is read in rows, and rightly."""

    def as_one_row(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
        return sdpa_attention_forward(module, query, key, value, None)[0]

    monkeypatch.setattr(attention, "line_attention_forward", as_one_row)
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    assert not trunk.reads_lines and not trunk.merged_copy(None).reads_lines


@pytest.mark.parametrize(
    ("config", "expected"),
    [(LlamaConfig, True), (partial(MistralConfig, sliding_window=4), False), (Gemma3TextConfig, False)],
)
def test_a_window_is_not_read_in_a_line(config: Callable[..., PretrainedConfig], expected: bool) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 16, "head_dim": 4}
    model = AutoModelForCausalLM.from_config(config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    quicken_attention(model)
    assert attends_lines(model) == expected


def test_threads_read_lines_of_their_own(trunk: Trunk) -> None:
    masks = [torch.ones(3, 9, dtype=torch.bool).tril(i) for i in range(8)]
    tokens = torch.arange(27).view(3, 9)
    expected = [trunk.hidden(tokens, mask)[mask] for mask in masks]
    found = RowThreads(4).map(lambda mask: trunk.hidden(tokens, mask)[mask], masks)
    for fast, slow in zip(found, expected, strict=True):
        assert_close(fast, slow, atol=1e-5, rtol=0)
