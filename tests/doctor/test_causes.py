"""From numbers to a cause: other weights, dropout, and which finding outranks which; by hand."""

from __future__ import annotations

import math

import pytest
import torch

from heed.doctor.causes import name_cause, settle
from heed.doctor.findings import Finding, finding
from heed.doctor.likeness import dropped, in_common, other_weights
from heed.doctor.samplers import Suspect
from heed.doctor.suspects import Explanation


def ids(found: list[Finding]) -> list[str]:
    return [one.id for one in found]


class TestOtherWeights:
    # squared cosines with (3, 4, 0): of (3, 0, 4) it is (9 / 25)² = 0.13, of (3, 4, 3) it is 25² / (25·34) = 0.74
    off = torch.tensor([3.0, 4.0, 0.0])

    def test_along_the_way(self) -> None:
        found = other_weights("sampler_logprobs", -self.off, torch.tensor([3.0, 4.0, 3.0]))
        assert found is not None
        assert (found.id, found.evidence["share"]) == ("NK13", pytest.approx(25 / 34))
        assert found.evidence["gap"] == pytest.approx(7 / 3)

    def test_aside(self) -> None:
        assert other_weights("sampler_logprobs", self.off, torch.tensor([3.0, 0.0, 4.0])) is None
        assert other_weights("sampler_logprobs", self.off, torch.zeros(3)) is None  # no training yet: no direction

    def test_what_it_is_called_in_each_column(self) -> None:
        named = [other_weights(name, self.off, self.off) for name in ("policy_logprobs", "ref_logprobs")]
        assert [one and one.id for one in named] == ["NK19", "NK15"]


class TestInCommon:
    def test_by_hand(self) -> None:
        # groups (1, 3) and (5, 7): means 2 and 6, B = 2·(2² + 2²) / 1 = 16, W = (1+1+1+1) / 2 = 2, ρ = 14 / (16 + 2)
        values, groups = torch.tensor([1.0, 5.0, 3.0, 7.0]), torch.tensor([0, 1, 0, 1])
        assert in_common(values, groups) == pytest.approx(14 / 18)

    def test_groups_of_three(self) -> None:
        # means 1 and 5 about 3: B = 3·(2² + 2²) / 1 = 24, W = (1+0+1 + 1+0+1) / 4 = 1, ρ = 23 / (24 + 2·1)
        values, groups = torch.tensor([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]), torch.tensor([0, 0, 0, 1, 1, 1])
        assert in_common(values, groups) == pytest.approx(23 / 26)

    def test_nothing_in_common(self) -> None:
        assert in_common(torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0, 1, 0, 1])) == 0
        assert in_common(torch.ones(4), torch.tensor([0, 0, 1, 1])) == 0


class TestDropped:
    tokens, masks = 400, 40

    def lines(self, generator: torch.Generator, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Right numbers, and as many as there are masks of what noise of that spread makes of them."""
        plain = -3 * torch.rand(self.tokens, generator=generator)
        noise = spread * torch.randn(self.masks, self.tokens, generator=generator)
        return plain, plain + noise

    @pytest.mark.parametrize(("column", "cause"), [("policy_logprobs", "NK6"), ("ref_logprobs", "")])
    def test_one_more_mask_is_dropout(self, generator: torch.Generator, column: str, cause: str) -> None:
        plain, lines = self.lines(generator, 0.3)
        rows = torch.arange(self.tokens) // 10
        found = dropped(column, lines[0], plain, {0.1: lines[1:], 0.2: plain + 4 * (lines[1:] - plain)}, rows)
        assert (found.id if found else "") == cause
        assert found is None or found.evidence["dropout"] == 0.1

    def test_a_sampler_writes_what_its_mask_favours(self, generator: torch.Generator) -> None:
        """Of 40 masks the sampler had one, in proportion to the probability that it gave the token it then drew."""
        plain, lines = self.lines(generator, 0.8)
        chosen = torch.multinomial(lines.exp().T, 1, generator=generator)[:, 0]
        recorded, rows = lines[chosen, torch.arange(self.tokens)], torch.arange(self.tokens) // 10
        found = dropped("sampler_logprobs", recorded, plain, {0.1: lines}, rows)
        assert found is not None
        assert found.id == "NK7"
        assert dropped("policy_logprobs", recorded, plain, {0.1: lines}, rows) is None

    def test_other_numbers_are_not(self, generator: torch.Generator) -> None:
        plain, lines = self.lines(generator, 0.3)
        rows = torch.arange(self.tokens) // 10
        for recorded in (plain + 0.3, plain + 5 * (lines[0] - plain), plain + 0.1 * (lines[0] - plain)):
            assert dropped("policy_logprobs", recorded, plain, {0.1: lines[1:]}, rows) is None
        assert (
            dropped("policy_logprobs", lines[0][:50], plain[:50], {0.1: lines[1:, :50]}, rows[:50]) is None
        )  # too few
        assert dropped("policy_logprobs", lines[0], plain, {}, rows) is None

    def test_uniform_ranks_are_not_enough(self, generator: torch.Generator) -> None:
        """Masks that move each token its own way leave even the right numbers with uniform ranks; a few numbers that
        are far off hardly show in them."""
        plain, lines = self.lines(generator, 0.3)
        rows = torch.arange(self.tokens)
        moved = lines + 0.3 * torch.randn(self.tokens, generator=generator)
        assert dropped("policy_logprobs", plain + 0.01, plain, {0.1: moved}, rows) is None
        far = lines[0] - 10 * (torch.arange(self.tokens) % 40 == 0)
        assert dropped("policy_logprobs", far, plain, {0.1: lines[1:]}, rows) is None

    def test_noise_that_a_row_shares_is_allowed_for(self, generator: torch.Generator) -> None:
        """Twenty tokens with one noise weigh as one token: 400 of them would never be as uneven as twenty are."""
        plain = torch.zeros(self.tokens)
        rows = torch.arange(self.tokens) // 20
        lines = 0.3 * torch.randn(self.masks, 20, generator=generator).repeat_interleave(20, 1)
        shifted = 0.3 * torch.randn(20, generator=generator).repeat_interleave(20)
        found = dropped("policy_logprobs", shifted, plain, {0.1: lines}, rows)
        assert found is not None
        assert found.evidence["ks"] < 1.63
        assert dropped("policy_logprobs", shifted, plain, {0.1: lines}, torch.arange(self.tokens)) is None


class TestNameCause:
    def test_the_suspect_is_as_grave_as_the_symptom(self) -> None:
        symptoms = [finding("T7", "x", "warning"), finding("T8", "y", event="eos")]
        (found,) = name_cause(symptoms, Explanation((Suspect("NK2", "temperature=0.7"),), 40.0))
        assert (found.id, found.severity, found.evidence["gain"]) == ("NK2", "error", 40.0)
        assert list(found.evidence["tests"]) == ["T8 eos", "T7"]

    def test_absent_tokens_are_a_ban(self) -> None:
        symptoms = [finding("T7", "x"), finding("T8", "y", "warning", event="absent")]
        assert [(one.id, one.severity) for one in name_cause(symptoms, None)] == [("NK3", "warning")]

    def test_else_the_gravest_symptom(self) -> None:
        (found,) = name_cause([finding("T9", "x", "warning"), finding("T7", "y")], None)
        assert (found.id, set(found.evidence["tests"])) == ("T7", {"T7", "T9"})
        assert name_cause([], None) == []


class TestSettle:
    fit = finding("NK2", "x", "warning", fits="temperature=0.7", tests={"T7": {}})
    numbers = finding("T2", "x", test="T2")

    def test_a_fit_is_as_grave_as_the_numbers_that_it_explains(self) -> None:
        assert [(one.id, one.severity) for one in settle([self.fit, self.numbers])] == [("NK2", "error")]
        assert [(one.id, one.severity) for one in settle([self.fit])] == [("NK2", "warning")]
        small = finding("NK16", "x", test="T2")
        assert [(one.id, one.severity) for one in settle([small, self.fit])] == [
            ("NK16", "warning"),
            ("NK2", "warning"),
        ]

    def test_reproduced_numbers_outrank_a_fit(self) -> None:
        exact = finding("NK7", "x", test="T2", toggle="dropout", gap=0.5, column="sampler_logprobs")
        assert ids(settle([self.fit, exact, self.numbers])) == ["NK7"]

    def test_a_mistake_of_the_scorer_voids_what_was_weighed_by_it(self) -> None:
        scorer = finding("NK8", "x", test="T4", toggle="positions", gap=0.5, column="policy_logprobs")
        fit = finding("NK2", "x", fits="temperature=0.7", tests={"T7": {}})
        assert ids(settle([fit, scorer, self.numbers])) == ["NK8"]
        apart = finding("NK8", "x", test="T2", toggle="positions", gap=0.5, column="policy_logprobs", apart=True)
        assert ids(settle([fit, apart, self.numbers])) == ["NK2", "NK8"]  # the tokens were weighed by exact logits
        exact = finding("NK1", "x", fits="top_k=5", exact=True, tests={"T7": {}})
        assert ids(settle([exact, scorer])) == ["NK1", "NK8"]  # it gives the sampler's own numbers

    def test_scores_that_differ_from_themselves_explain_every_comparison(self) -> None:
        dropout = finding("NK6", "x", test="T3")
        others = [finding("NK14", "x", test="T5"), finding("NK8", "x", test="T4"), self.fit, self.numbers]
        assert ids(settle([*others, dropout])) == ["NK6"]
        assert ids(settle([*others, finding("NK6", "x", test="T4", toggle="dropout", gap=0.3)])) == ["NK6"]
        assert ids(settle([*others, dropout, finding("NK10", "x", test="T12")])) == ["NK6", "NK10"]
        exact_scoring = finding("NK8", "x", test="T4", apart=True)  # has no dropout in it
        assert ids(settle([*others, dropout, exact_scoring])) == ["NK6", "NK8"]

    def test_a_warning_that_explains_the_numbers_leaves_no_symptom(self) -> None:
        newer = finding("NK19", "x", test="T2", toggle="weights", gap=0.1)
        versions = finding("NK13", "x", test="T15")
        assert ids(settle([newer, self.numbers, versions])) == ["NK19"]
        assert ids(settle([finding("NK22", "x"), self.numbers])) == ["T2", "NK22"]


def test_minus_infinity_does_not_count_as_dropout() -> None:
    plain = torch.full((200,), -1.0)
    recorded = torch.where(torch.arange(200) % 9 == 0, -math.inf, plain)
    lines = plain + 0.1 * torch.randn(8, 200, generator=torch.Generator().manual_seed(0))
    assert dropped("policy_logprobs", recorded, plain, {0.1: lines}, torch.arange(200)) is None
