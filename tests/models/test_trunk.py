"""The equivalences that let four models live on one trunk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.batches import PromptBatch, Responses
from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint, weights_hash, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)
TOKENS = torch.arange(2, 26).view(2, 12)
ALL = torch.ones(2, 12, dtype=torch.bool)


def disturbed(trunk: Trunk, name: str = "policy") -> Policy:
    trunk.add_adapter(name, LORA)
    generator = torch.Generator().manual_seed(0)
    for parameter in trunk.adapter_parameters(name).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return Policy(trunk, name)


def hidden(trunk: Trunk, name: str | None) -> torch.Tensor:
    with trunk.active(name), torch.no_grad():
        return trunk.hidden(TOKENS, ALL)


def test_fresh_adapter_changes_nothing_and_a_trained_one_does(trunk: Trunk) -> None:
    base = hidden(trunk, None)
    trunk.add_adapter("fresh", LORA)
    disturbed(trunk)
    assert torch.equal(hidden(trunk, "fresh"), base)
    assert torch.equal(hidden(trunk, None), base)
    assert (hidden(trunk, "policy") - base).abs().max() > 0.01


def test_copy_equals_its_source_and_then_goes_its_own_way(trunk: Trunk) -> None:
    disturbed(trunk)
    trunk.copy_adapter("policy", "copy")
    before = hidden(trunk, "policy")
    assert torch.equal(hidden(trunk, "copy"), before)
    for parameter in trunk.adapter_parameters("copy").values():
        parameter.data += 1
    assert torch.equal(hidden(trunk, "policy"), before)


def test_merging_is_undone_to_the_bit(trunk: Trunk) -> None:
    disturbed(trunk)
    before = {name: value.clone() for name, value in trunk.model.state_dict().items()}
    base, adapted = hidden(trunk, None), hidden(trunk, "policy")
    with trunk.merged("policy"), torch.no_grad():
        assert_close(trunk.hidden(TOKENS, ALL), adapted, atol=1e-5, rtol=0)
    assert torch.equal(hidden(trunk, None), base)
    assert all(torch.equal(value, before[name]) for name, value in trunk.model.state_dict().items())


def test_merging_is_undone_after_an_error(trunk: Trunk) -> None:
    disturbed(trunk)
    base = hidden(trunk, None)
    with pytest.raises(ZeroDivisionError), trunk.merged("policy"):
        raise ZeroDivisionError
    assert torch.equal(hidden(trunk, None), base)


def test_merged_copy_is_the_same_function_and_shares_nothing(trunk: Trunk) -> None:
    disturbed(trunk)
    copied = trunk.merged_copy("policy")
    adapted = hidden(trunk, "policy")
    assert_close(hidden(copied, None), adapted, atol=1e-5, rtol=0)
    for parameter in copied.model.parameters():
        parameter.data += 1
    assert torch.equal(hidden(trunk, "policy"), adapted)


def test_conv1d_update_has_the_right_orientation(trunk: Trunk) -> None:
    """GPT-2 keeps weights as (in, out): a dense product with W + (alpha / rank)·(B·A)ᵀ must give the same."""
    disturbed(trunk)
    layer = trunk.model.transformer.h[0].attn.c_attn
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    a, b = layer.lora_A["policy"].weight, layer.lora_B["policy"].weight
    dense = x @ (layer.base_layer.weight + 8 / 4 * (b @ a).T) + layer.base_layer.bias
    with trunk.active("policy"):
        assert_close(layer(x), dense, atol=1e-5, rtol=0)


def test_switching_never_touches_requires_grad(trunk: Trunk) -> None:
    policy = disturbed(trunk)
    trunk.add_adapter("value", LORA)
    with policy.trainable() as parameters:
        with trunk.active("value"):
            pass
        assert all(parameter.requires_grad for parameter in parameters.values())
        assert not any(p.requires_grad for p in trunk.adapter_parameters("value").values())


def test_order_of_adapters_changes_nothing(tiny_directory: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_directory))
    first, second = (Trunk.load(checkpoint, torch.float32, CPU) for _ in range(2))
    disturbed(first)
    first.add_adapter("value", LORA)
    second.add_adapter("value", LORA)
    second.add_adapter("policy", LORA)
    for name, parameter in first.adapter_parameters("policy").items():
        second.adapter_parameters("policy")[name].data.copy_(parameter.data)
    assert torch.equal(hidden(first, "policy"), hidden(second, "policy"))


def test_reference_is_constant_while_the_policy_trains(
    trunk: Trunk, prompts: PromptBatch, responses: Responses
) -> None:
    disturbed(trunk, "reference")
    trunk.copy_adapter("reference", "policy")
    policy = Policy(trunk, "policy")
    before, start = hidden(trunk, "reference"), hidden(trunk, "policy")
    frozen = {name: p.clone() for name, p in trunk.model.named_parameters() if ".policy." not in name}
    with policy.trainable() as parameters:
        optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
        for _ in range(3):
            with policy.active():
                (-policy.logprobs(prompts, responses).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(hidden(trunk, "reference"), before)
    assert (hidden(trunk, "policy") - start).abs().max() > 0.01
    assert all(torch.equal(p, frozen[name]) for name, p in trunk.model.named_parameters() if name in frozen)


def test_low_rank_update_by_svd_is_the_full_fine_tune(trunk: Trunk, tiny_directory: Path) -> None:
    """A full update of rank 4, given to an adapter as its singular vectors, is the same model."""
    generator = torch.Generator().manual_seed(0)
    trunk.add_adapter("svd", LORA)
    full = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    for name, layer in [(n, m) for n, m in trunk.model.named_modules() if hasattr(m, "lora_A")]:
        plain = full.model.get_submodule(name)
        rows, columns = plain.weight.shape
        update = 0.02 * torch.randn(rows, 4, generator=generator) @ torch.randn(4, columns, generator=generator)
        plain.weight.data += update
        u, s, v = torch.linalg.svd(update.T, full_matrices=False)  # (out, in), as B·A is
        layer.lora_B["svd"].weight.data = u[:, :4] * s[:4] / (8 / 4)
        layer.lora_A["svd"].weight.data = v[:4].contiguous()
    assert_close(hidden(trunk, "svd"), hidden(full, None), atol=1e-4, rtol=0)


# --- on disk ----------------------------------------------------------------------------------------------------


def test_adapter_opens_in_stock_libraries_with_equal_logits(trunk: Trunk, tmp_path: Path, tiny_directory: Path) -> None:
    policy = disturbed(trunk)
    save_policy(policy, tmp_path)
    expected = trunk.logits(hidden(trunk, "policy").reshape(-1, 32)).view(2, 12, -1).detach()
    on_base = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_directory), tmp_path)
    by_peft, by_auto = (c.from_pretrained(tmp_path) for c in (AutoPeftModelForCausalLM, AutoModelForCausalLM))
    for stock in (on_base, by_peft, by_auto):
        assert torch.equal(stock.eval()(TOKENS).logits.detach(), expected)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token_id == 1


def test_full_model_opens_in_transformers_with_equal_logits(trunk: Trunk, tmp_path: Path) -> None:
    disturbed(trunk)
    full = trunk.merged_copy("policy")
    save_policy(Policy(full), tmp_path)
    expected = full.logits(hidden(full, None).reshape(-1, 32)).view(2, 12, -1)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(TOKENS).logits, expected)


def test_saved_adapter_comes_back_to_the_bit(trunk: Trunk, tmp_path: Path) -> None:
    policy = disturbed(trunk)
    save_policy(policy, tmp_path)
    write_metadata(tmp_path, {"kind": "policy", "base_hash": trunk.hash})
    trunk.attach("again", open_checkpoint(str(tmp_path)))
    assert torch.equal(hidden(trunk, "again"), hidden(trunk, "policy"))


def test_files_of_an_adapter_are_the_same_bytes_in_every_process(trunk: Trunk, tmp_path: Path) -> None:
    """peft writes a set of names as it is iterated over, which is drawn anew in every process."""
    trunk.add_adapter("policy", LoraSettings(rank=2, targets=("c_attn", "c_proj", "c_fc", "wte", "wpe")))
    assert isinstance(trunk.adapters["policy"].target_modules, set)
    trunk.save_adapter("policy", tmp_path, "CAUSAL_LM")
    named = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert named == sorted(named) and len(named) == 5


def test_an_adapter_that_was_trained_with_dropout_is_read_without(trunk: Trunk, tmp_path: Path) -> None:
    trunk.add_adapter("policy", LORA.model_copy(update={"dropout": 0.5}))
    for parameter in trunk.adapter_parameters("policy").values():
        parameter.data += 0.1
    trunk.save_adapter("policy", tmp_path, "CAUSAL_LM")
    trunk.attach("again", open_checkpoint(str(tmp_path)))
    trunk.copy_adapter("again", "copy")
    for name in ("policy", "again", "copy"):
        assert torch.equal(hidden(trunk, name), hidden(trunk, "policy"))
    assert not torch.equal(hidden(trunk, "policy"), hidden(trunk, None))


def test_adapter_of_other_weights_is_refused(trunk: Trunk, tmp_path: Path) -> None:
    save_policy(disturbed(trunk), tmp_path)
    write_metadata(tmp_path, {"kind": "policy", "base_hash": "0123456789abcdef"})
    with pytest.raises(CheckpointError, match="0123456789abcdef"):
        trunk.attach("again", open_checkpoint(str(tmp_path)))


def test_hash_ignores_dtype_and_adapters_and_sees_a_changed_weight(tiny_directory: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_directory))
    fp32, bf16 = (Trunk.load(checkpoint, dtype, CPU) for dtype in (torch.float32, torch.bfloat16))
    before = weights_hash(fp32.model)
    assert weights_hash(bf16.model) == before
    fp32.add_adapter("policy", LORA)
    assert weights_hash(fp32.model) == before
    fp32.model.transformer.h[1].ln_1.bias.data[0] += 1
    assert weights_hash(fp32.model) != before


def test_bfloat16_trunk_keeps_adapters_in_float32(tiny_directory: Path) -> None:
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.bfloat16, CPU)
    trunk.add_adapter("policy", LORA)
    trunk.copy_adapter("policy", "value")
    adapters = [*trunk.adapter_parameters("policy").values(), *trunk.adapter_parameters("value").values()]
    assert {parameter.dtype for parameter in adapters} == {torch.float32}
    assert trunk.model.transformer.wte.weight.dtype == torch.bfloat16
    assert trunk.logits(hidden(trunk, "policy")[0]).dtype == torch.float32


def test_the_error_of_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such directory"):
        open_checkpoint(str(tmp_path / "nowhere" / "checkpoint"))
    with pytest.raises(CheckpointError, match=r"neither config\.json nor adapter_config\.json"):
        open_checkpoint(str(tmp_path))
    with pytest.raises(CheckpointError, match="while online"):
        Trunk.load(open_checkpoint("nobody/no-such-model"), torch.float32, CPU)
