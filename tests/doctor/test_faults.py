"""Each wrong configuration of PPO, put into heed's own on a tiny model: the doctor names its cause, and nothing else.

`make doctor-table` is the proof in full, on a trained model and over many seeds.
"""

from __future__ import annotations

import pytest
import torch
from faults import FAULTS, Fault
from ward import Outcome, Ward, gravest

from heed.doctor.findings import CAUSES, finding

SYMPTOMS = {"NK21", "NK22", "NK23"}
UNSEEN = {"no repeated 3-grams": "a tiny model of random weights repeats none"}


def test_every_cause_has_a_fault() -> None:
    assert {fault.cause for fault in FAULTS} == set(CAUSES) - SYMPTOMS
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 20


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name not in UNSEEN], ids=lambda fault: fault.name)
def test_a_fault_is_named_and_nothing_else(ward: Ward, fault: Fault, seed: int) -> None:
    assert ward.try_out(fault, seed).found == [fault.cause]


def test_a_healthy_run_is_not_ill(ward: Ward) -> None:
    found = ward.healthy(seed=0, rollouts=20)
    assert [one for one in found if one.severity == "error"] == []
    assert len([one for one in found if one.id in CAUSES and one.severity == "warning"]) <= 1


def test_a_healthy_file_has_no_findings(ward: Ward) -> None:
    rows = ward.rows(ward.questions[:400], torch.Generator().manual_seed(0))
    assert ward.diagnosed(rows) == []


def test_a_fault_leaves_nothing_behind(ward: Ward) -> None:
    """The patches are gone after their trial: the same seed writes the same file as before."""
    ward.try_out(FAULTS[0], seed=3)
    before = ward.rows(ward.questions[:32], torch.Generator().manual_seed(0))
    for fault in [fault for fault in FAULTS if not (fault.trained or fault.begun)][::4]:
        ward.try_out(fault, seed=3)
    assert ward.rows(ward.questions[:32], torch.Generator().manual_seed(0)) == before


def test_an_outcome_is_right_only_with_its_cause_alone() -> None:
    found = [finding("NK1", "x"), finding("NK16", "x"), finding("NK21", "x"), finding("T2", "x", "warning")]
    assert gravest(found) == ["NK1"]
    assert gravest(found[1:]) == ["NK16"]  # no error: the causes among the warnings
    assert gravest(found[2:]) == []
    assert Outcome("f", "NK1", 0, 1, ["NK1"], 9).is_right
    assert not Outcome("f", "NK1", 0, 1, ["NK1", "NK2"], 9).is_right
