"""T13 and T15: which weights are there, and did they move? Fingerprints are cheap enough to be taken at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from heed.doctor.findings import Finding, finding

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Print = dict[str, int]
"""A number for each tensor that every training step changes."""


def fingerprint(tensors: Mapping[str, Tensor]) -> Print:
    """The sum of each tensor's bits, read as integers: one pass over the memory, and one wait for the device.

    Two tensors of the same numbers in another order have the same sum; what training does to weights is not that.
    """
    sums = [_bits(tensor.detach()).sum() for tensor in tensors.values()]
    return dict(zip(tensors, torch.stack(sums).tolist(), strict=True)) if sums else {}


def _bits(tensor: Tensor) -> Tensor:
    """The memory as 64-bit integers where it divides into them: sums of narrower ones are three times slower."""
    flat, size = tensor.reshape(-1), tensor.element_size()
    divides = (flat.numel() * size) % 8 == 0 and (flat.storage_offset() * size) % 8 == 0
    return flat.view(_INTEGERS[8 if divides else size])


def moved(before: Print, after: Print) -> list[str]:
    """Names of the tensors that are not what they were."""
    return [name for name in before if after.get(name) != before[name]]


def reference_moved(before: Print, after: Print, step: int) -> list[Finding]:
    """T13: the reference's weights are those of the first step."""
    names = moved(before, after)
    if not names:
        return []
    message = f"The reference's parameters changed by step {step}: {', '.join(names[:3])}."
    return [finding("NK15", message, test="T13", names=names[:20], count=len(names))]


def trained_reference(trained: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> list[Finding]:
    """T13: no parameter that is trained is one of the reference's, and none of the reference's asks for a gradient."""
    places = {tensor.data_ptr() for tensor in trained.values()}
    names = [name for name, tensor in reference.items() if tensor.requires_grad or tensor.data_ptr() in places]
    if not names:
        return []
    message = f"{len(names)} parameters of the reference are trained: {', '.join(names[:3])}."
    return [finding("NK15", message, test="T13", names=names[:20], count=len(names))]


def policy_stays(before: Print, after: Print, step: int) -> list[Finding]:
    """T13: an update that trains the policy changes it."""
    if not before or moved(before, after):
        return []
    message = f"The update of step {step} changed none of the policy's {len(before)} parameters."
    hint = "no gradient reaches them, or every advantage is 0: look at policy/grad_norm and score/sd"
    return [finding("T13", message, "warning", hint)]


def stale(sampled_with: Print, scored_with: Print) -> list[Finding]:
    """T15: the policy's weights before the rollout was drawn and after it was scored."""
    names = moved(sampled_with, scored_with)
    if not names:
        return []
    message = f"The policy changed between drawing and scoring: {', '.join(names[:3])}."
    return [finding("NK13", message, test="T15", names=names[:20], count=len(names))]


def wrong_adapter(expected: str | None, active: Sequence[Sequence[str]]) -> list[Finding]:
    """T13: every layer uses the policy's adapter, and only that, while the policy scores. `active` is by layer."""
    wanted = [] if expected is None else [expected]
    other = [list(names) for names in active if list(names) != wanted]
    if not other:
        return []
    message = f"{len(other)} layers score with the adapters {other[0]}, the policy's is {expected}."
    return [finding("NK13", message, test="T13", layers=len(other), expected=expected, active=other[0])]
