"""Each test by hand: it passes what is right, and names what is wrong."""

from __future__ import annotations

import math

import pytest
import torch

from heed.doctor import checks
from heed.doctor.causes import PAIRS, TOGGLES, explain, settle
from heed.doctor.findings import CAUSES, TESTS, Finding, by_severity, finding
from heed.doctor.tolerances import BFLOAT16

MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])
LINE = torch.tensor([[-1.0, -2.0, -0.5, 99.0], [-3.0, -0.1, math.nan, math.nan]])


def ids(found: list[Finding]) -> list[str]:
    return [one.id for one in found]


def test_there_are_24_causes_and_16_tests() -> None:
    assert list(CAUSES) == [f"NK{i}" for i in range(1, 25)]
    assert list(TESTS) == [f"T{i}" for i in range(16)]
    assert {toggle.cause for toggle in TOGGLES} <= set(CAUSES)


def test_t1_identity() -> None:
    assert checks.token_identity([[1, 2], [3]], [[1, 2], [3]]) == []
    (found,) = checks.token_identity([[1, 2], [3]], [[1, 2], [3, 4]])
    assert (found.id, found.evidence["rows"], found.evidence["first_row"]) == ("NK17", 1, 1)
    assert ids(checks.token_identity([[1, 2]], [[1, 3]])) == ["NK17"]  # as many ids, others
    assert ids(checks.token_identity([[1]], [[1]], [[5]], [[0, 5]])) == ["NK18"]


def test_t2_gap() -> None:
    assert checks.rescore_gap(LINE + 5e-4, LINE, MASK) == []
    noise = torch.tensor([[0.02, -0.02, 0.02, 7.0], [-0.02, 0.001, 7.0, 7.0]])
    assert ids(checks.rescore_gap(LINE + noise, LINE, MASK)) == ["NK16"]
    assert checks.rescore_gap(LINE + noise, LINE, MASK, BFLOAT16) == []
    (found,) = checks.rescore_gap(LINE - 0.5, LINE, MASK)
    assert found.id == "T2"
    assert found.evidence["mean"] == pytest.approx(-0.5)
    assert found.evidence["tokens"] == 5
    assert ids(checks.rescore_gap(LINE - 0.1, LINE, MASK)) == ["T2"]  # small at each token, but always one way


def test_t2_few_tokens_that_are_far_off() -> None:
    """One of 1,000 is told, though mean and 99th percentile are nothing; of 20 pairs each way the mean is nothing."""
    line, mask = torch.full((1, 1000), -2.0), torch.ones(1, 1000, dtype=torch.bool)
    one, pairs = torch.zeros(1, 1000), torch.zeros(1, 1000)
    one[0, 7], pairs[0, :40] = 0.5, torch.tensor([0.5, -0.5] * 20)
    assert ids(checks.rescore_gap(line + one, line, mask)) == ["NK16"]
    assert ids(checks.rescore_gap(line + pairs, line, mask)) == ["T2"]


def test_t3_determinism() -> None:
    assert checks.determinism(LINE, LINE.clone(), MASK) == []
    again = LINE + torch.tensor([[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    (found,) = checks.determinism(LINE, again, MASK, ["h.0.attn.dropout"])
    assert found.id == "NK6"
    assert "h.0.attn.dropout" in found.message


def test_t4_padding() -> None:
    pads = torch.tensor([0, 3])
    assert checks.padding_invariance(LINE, LINE + 5e-5, MASK, pads) == []
    moved = LINE + torch.tensor([[0.0], [0.4]])
    (found,) = checks.padding_invariance(moved, LINE, MASK, pads)
    assert (found.id, found.evidence["without_pads"]) == ("NK8", 0)
    assert ids(checks.padding_invariance(moved, LINE, MASK, pads, hidden=2)) == ["NK9"]


def test_t5_identity_at_start() -> None:
    assert checks.identity_at_start(LINE, LINE.clone(), MASK) == []
    (found,) = checks.identity_at_start(LINE + 1, LINE, MASK)
    assert found.id == "NK14"
    assert found.evidence["kl"] == pytest.approx(2.5)  # three and two tokens of one nat each
    assert ids(checks.identity_at_start(LINE - 1, LINE, MASK)) == ["T5"]  # negative: two ways of scoring
    assert checks.identity_at_start(LINE + 9e-4, LINE, MASK) == []  # another batch: rounding


def test_t5_of_a_file_allows_for_lower_precision_and_says_so() -> None:
    rounded = LINE + torch.tensor([[0.02, -0.02, 0.01, 9.0], [-0.01, 0.0, 9.0, 9.0]])
    assert ids(checks.identity_at_start(rounded, LINE, MASK)) == ["NK16"]
    kl = torch.full((2, 4), 0.01)  # exact scoring is known to be in float32, where it has a cause
    assert ids(checks.identity_at_start(rounded, LINE, MASK, kl)) == ["NK14"]
    assert checks.identity_at_start(rounded, LINE, MASK, kl, BFLOAT16) == []


def test_t6_swapped_roles() -> None:
    policy, reference = LINE, LINE - torch.tensor([[0.5, -0.2, 0.9, 0.0], [0.1, 0.3, 0.0, 0.0]])
    assert checks.swapped_roles(policy, reference, policy, reference, MASK) == []
    assert ids(checks.swapped_roles(reference, policy, policy, reference, MASK)) == ["NK12"]
    assert checks.swapped_roles(policy, policy, policy, policy, MASK) == []  # before training there is no sign


def test_t6_sign_without_models() -> None:
    mask = torch.ones(16, 1, dtype=torch.bool)
    spread = torch.arange(16.0)[:, None] - 7.5  # mean 0, sd 4.76, standard error 1.19
    assert checks.sign_of_kl(spread + 1, mask) == []
    assert ids(checks.sign_of_kl(spread - 2, mask)) == ["NK21"]
    (found,) = checks.sign_of_kl(spread - 6, mask)
    assert (found.id, found.evidence["z"]) == ("T6", pytest.approx(-6 / 1.19, abs=0.01))
    assert checks.sign_of_kl(spread[:4] - 6, mask[:4]) == []  # four responses prove nothing
    rounding = 1e-5 * (spread / 50 - 1)  # always below 0, and no more than another batch does
    assert checks.sign_of_kl(rounding, mask) == []
    assert ids(checks.sign_of_kl(rounding * 200, mask)) == ["T6"]


class TestT12Mask:
    tokens = torch.tensor([[5, 6, 0, 1], [7, 8, 9, 4]])
    right = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()

    def test_right(self) -> None:
        assert checks.mask_audit(self.tokens, self.right, eos=(0,)) == []
        assert checks.mask_audit(self.tokens, self.right, eos=(0,), contributions=self.right * 0.3) == []

    def test_after_the_end(self) -> None:
        (found,) = checks.mask_audit(self.tokens, torch.ones_like(self.right), eos=(0,))
        assert (found.id, found.evidence["tokens"]) == ("NK10", 1)

    def test_without_the_end(self) -> None:
        mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
        assert ids(checks.mask_audit(self.tokens, mask, eos=(0,))) == ["NK9"]

    def test_padding_with_end_of_text_is_not_a_lost_end(self) -> None:
        assert checks.mask_audit(torch.tensor([[5, 0, 0, 0]]), torch.tensor([[1, 1, 0, 0]]).bool(), eos=(0,)) == []

    def test_holes_and_what_is_added_outside(self) -> None:
        holes = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1]]).bool()
        assert ids(checks.mask_audit(self.tokens, holes, eos=())) == ["T12"]
        assert ids(checks.mask_audit(self.tokens, self.right, eos=(0,), contributions=torch.ones(2, 4))) == ["NK10"]


def test_t14_normalisation() -> None:
    assert checks.normalisation(LINE, MASK, exact_kl=torch.zeros(2, 4)) == []
    assert ids(checks.normalisation(LINE + 1, MASK)) == ["NK20"]
    assert ids(checks.normalisation(torch.full((2, 4), -math.inf), MASK)) == ["NK20"]
    assert ids(checks.normalisation(LINE, MASK, exact_kl=torch.full((2, 4), -0.1))) == ["NK20"]


def test_t15_freshness() -> None:
    assert checks.freshness([1, 1], [1, 1]) == []
    assert checks.freshness([None, 1], [2, 1]) == []
    assert ids(checks.freshness([1, 1], [1, 2])) == ["NK13"]
    (found,) = checks.freshness([1], [1], steps_since=4)
    assert (found.id, found.severity) == ("NK19", "warning")


def test_explain_names_the_toggle_that_gives_the_recorded_numbers() -> None:
    scored = {"": LINE, "positions": LINE + 0.7, "shift": LINE - 0.3}
    rescore = scored.get
    assert explain(LINE, MASK, rescore, 1e-3) == []
    (found,) = explain(LINE + 0.7, MASK, rescore, 1e-3)
    assert (found.id, found.evidence["toggle"]) == ("NK8", "positions")
    assert explain(LINE + 0.2, MASK, rescore, 1e-3) == []
    assert explain(LINE + 0.5, MASK, rescore, 1e-3) == []  # nearer to a toggle than to the right numbers, but not it
    assert ids(explain(LINE - 0.3, MASK, rescore, 1e-3, {"shift": "NK13"})) == ["NK13"]


def test_explain_names_two_mistakes_at_once() -> None:
    scored = {"": LINE, "positions": LINE + 0.7, "positions+temperature": LINE + 0.9, "shift+raw": LINE - 0.2}
    found = explain(LINE + 0.9, MASK, scored.get, 1e-3, toggles=PAIRS)
    assert ids(found) == ["NK8", "NK2"]
    assert all("counting positions from the first pad and leaving out the temperature" in one.message for one in found)
    assert ids(explain(LINE - 0.2, MASK, scored.get, 1e-3, toggles=PAIRS)) == ["NK11", "NK20"]


def test_a_known_cause_leaves_no_bare_symptoms() -> None:
    bare, noise, cause, warning = finding("T2", "x"), finding("NK21", "x"), finding("NK8", "x"), finding("NK23", "x")
    assert ids(settle([noise, bare, warning, cause, cause])) == ["NK8", "NK23"]
    assert ids(settle([noise, bare])) == ["T2", "NK21"]
    assert ids(by_severity([noise, warning, cause])) == ["NK8", "NK23", "NK21"]
    assert cause.as_dict()["hint"] == CAUSES["NK8"].hint
