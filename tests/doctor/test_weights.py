"""Fingerprints of weights, and what they prove."""

from __future__ import annotations

import pytest
import torch

from heed.doctor.weights import (
    fingerprint,
    moved,
    policy_stays,
    reference_moved,
    stale,
    trained_reference,
    wrong_adapter,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4), (7,), (5, 1)])
def test_one_bit_is_seen(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Also in tensors whose bytes do not divide into 64-bit integers, and in views that begin in the middle of one."""
    tensor = torch.randn(shape).to(dtype)
    before = fingerprint({"w": tensor, "same": torch.ones(3)})
    assert fingerprint({"w": tensor.clone(), "same": torch.ones(3)}) == before
    line = tensor.view(-1)
    line[-1] = torch.nextafter(line[-1], torch.tensor(9.0).to(dtype)) if dtype == torch.float32 else line[-1] * 1.01 + 1
    assert moved(before, fingerprint({"w": tensor, "same": torch.ones(3)})) == ["w"]
    view = torch.randn(9).to(dtype)[1:]
    assert fingerprint({"v": view}) == fingerprint({"v": view.clone()}) or view.numel() * view.element_size() % 8 == 0


def test_transposed_weights_have_a_fingerprint() -> None:
    assert fingerprint({"w": torch.arange(6.0).view(2, 3).T}) == fingerprint({"w": torch.arange(6.0).view(2, 3).T})
    assert fingerprint({}) == {}


def test_findings_name_what_moved() -> None:
    before, after = {"a": 1, "b": 2}, {"a": 1, "b": 3}
    assert reference_moved(before, dict(before), 4) == []
    found = reference_moved(before, after, 4)[0]
    assert found.id == "NK15" and found.evidence["names"] == ["b"] and "step 4" in found.message
    assert [one.id for one in stale(before, after)] == ["NK13"] and stale(before, dict(before)) == []


def test_a_policy_that_does_not_move_is_a_warning() -> None:
    assert [(one.id, one.severity) for one in policy_stays({"a": 1}, {"a": 1}, 2)] == [("T13", "warning")]
    assert policy_stays({"a": 1}, {"a": 2}, 2) == []


def test_shared_or_trainable_parameters_of_the_reference() -> None:
    shared, own, asking = torch.ones(2), torch.ones(2), torch.ones(2, requires_grad=True)
    assert trained_reference({"p": own}, {"r": shared}) == []
    assert trained_reference({"p": shared}, {"r": shared})[0].evidence["names"] == ["r"]
    assert trained_reference({"p": own}, {"r": shared, "s": asking})[0].evidence["names"] == ["s"]


def test_active_adapters() -> None:
    assert wrong_adapter("policy", [["policy"], ["policy"]]) == []
    assert wrong_adapter(None, [[], []]) == []
    assert wrong_adapter("policy", [["policy"], []])[0].evidence["layers"] == 1
    assert [one.id for one in wrong_adapter("policy", [["policy", "reference"]])] == ["NK13"]
