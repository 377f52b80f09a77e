"""Calibration: healthy rollouts raise nothing. Power: each sampler's fault is named, with exactly its number."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.doctor.findings import Finding
from heed.doctor.statistics import Martingale
from heed.doctor.suspects import Ledger
from heed.doctor.watch import Watch, examine

HEALTHY = 200


def never() -> None:
    raise AssertionError("nothing is wrong, so nobody is suspected")


def test_healthy_rollouts_raise_nothing(language: Any, generator: torch.Generator) -> None:
    watch = Watch()
    seen: Counter[str] = Counter()
    for _ in range(HEALTHY):
        assert examine(watch, language.sums(language.draw(32, generator), generator), never) == []
        seen.update(name for name, z in watch.z.items() if z is not None)
    tested = {"T6", "T7", "T8 eos", "T8 rank_50", "T8 tail", "T8 seen", "T8 absent", "T9"}
    assert all(seen[name] > HEALTHY / 2 for name in tested), seen


@pytest.mark.parametrize("sharpness", [4.0, 8.0])
def test_healthy_rollouts_of_a_peaked_policy_raise_nothing(
    language: Any, generator: torch.Generator, sharpness: float
) -> None:
    peaked = type(language)(language.policy * sharpness, language.reference * sharpness)
    watch = Watch()
    findings = [
        found for _ in range(HEALTHY)
        for found in examine(watch, peaked.sums(peaked.draw(24, generator), generator), lambda: None)
    ]  # fmt: skip
    assert findings == []


def test_z_of_healthy_rollouts_is_standard_normal(language: Any, generator: torch.Generator) -> None:
    watch, zs = Watch(), {"T6": [], "T7": [], "T8 seen": []}
    for _ in range(150):
        watch(language.sums(language.draw(48, generator), generator))
        for name, values in zs.items():
            if watch.z[name] is not None:
                values.append(watch.z[name])
    for name, values in zs.items():
        z = torch.tensor(values)
        assert abs(float(z.mean())) < 0.3, name
        assert 0.75 < float(z.std()) < 1.25, name


def top_k(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits.masked_fill(logits < logits.topk(5).values[:, -1:], -torch.inf)


def top_p(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    p = logits.softmax(-1)
    above = (p[:, None, :] * (p[:, None, :] > p[:, :, None])).sum(-1)
    return logits.masked_fill(above >= 0.8, -torch.inf)


def temperature(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits / 0.7


def hot(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits / 1.4


def no_eos(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits.index_fill(1, torch.tensor([0]), -torch.inf)


def min_new_tokens(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return no_eos(logits, tokens, step) if step < 8 else logits


def repetition_penalty(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, tokens, True)
    return torch.where(seen, torch.where(logits > 0, logits / 1.3, logits * 1.3), logits)


def greedy(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits.masked_fill(logits < logits.amax(1, keepdim=True), -torch.inf)


def banned_words(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return logits.index_fill(1, torch.tensor([5, 6]), -torch.inf)


SAMPLERS = {
    "top_k=5": (top_k, "NK1"), "top_p=0.8": (top_p, "NK1"), "temperature=0.7": (temperature, "NK2"),
    "temperature=1.4": (hot, "NK2"), "repetition_penalty=1.3": (repetition_penalty, "NK3"),
    "banned words": (banned_words, "NK3"), "no end-of-text": (no_eos, "NK4"),
    "min_new_tokens=8": (min_new_tokens, "NK4"), "greedy": (greedy, "NK5"),
}  # fmt: skip


def diagnosed(language: Any, generator: torch.Generator, rollouts: int = 8, **how: Any) -> list[Finding]:
    """What is found in the first rollout in which anything is found to be an error."""
    watch, ledger = Watch(), Ledger()
    for _ in range(rollouts):
        drawn = language.draw(64, generator, **how)
        language.suspect(drawn, ledger)
        found = examine(watch, language.sums(drawn, generator), ledger.best)
        if any(one.severity == "error" for one in found):
            return found
    return []


@pytest.mark.parametrize(("process", "cause"), SAMPLERS.values(), ids=SAMPLERS)
def test_a_sampler_that_is_not_the_policy_is_named(
    language: Any, generator: torch.Generator, process: Any, cause: str
) -> None:
    assert [found.id for found in diagnosed(language, generator, process=process)] == [cause]


def test_a_sampler_that_is_the_reference_is_named(language: Any, generator: torch.Generator) -> None:
    found = diagnosed(language, generator, table=language.reference)
    assert [one.id for one in found] == ["NK13"]
    assert any(name.startswith("T6") for name in found[0].evidence["tests"])


def test_a_sampler_with_older_weights_is_named(language: Any, generator: torch.Generator) -> None:
    halfway = (language.policy + language.reference) / 2
    found = diagnosed(language, generator, rollouts=32, table=halfway)
    assert [one.id for one in found] == ["NK13"]


def test_a_sampler_that_is_nothing_known_is_not_blamed_on_another_cause(
    language: Any, generator: torch.Generator
) -> None:
    other = language.policy.flip(1)
    found = diagnosed(language, generator, table=other)
    assert len(found) == 1
    assert found[0].id.startswith("T")
    assert "No other sampler" in found[0].message


class TestPolicyOfAlarms:
    @staticmethod
    def at(z: float) -> dict[str, Any]:
        return {"T6": Martingale(z, 1.0, choices=1000)}

    def test_over_four_is_a_warning_and_over_six_an_error(self) -> None:
        assert [found.severity for found in Watch()(self.at(-4.5))] == ["warning"]
        assert [found.severity for found in Watch()(self.at(6.5))] == ["error"]
        assert [found.severity for found in Watch()(self.at(-6.5))] == ["error"]
        assert Watch()(self.at(3.9)) == []

    def test_twice_in_a_row_over_four_is_an_error(self) -> None:
        watch = Watch()
        watch(self.at(-4.5))
        assert [found.severity for found in watch(self.at(-4.5))] == ["error"]
        watch(self.at(0.5))
        assert [found.severity for found in watch(self.at(-4.5))] == ["warning"]

    def test_small_sums_wait_for_the_next_rollout(self) -> None:
        watch = Watch()
        small = {"T6": Martingale(-7.0, 1.0, choices=60)}
        assert watch(small) == []
        assert watch.z["T6"] is None
        assert [found.evidence["z"] for found in watch(small)] == [pytest.approx(-14 / 2**0.5)]

    def test_small_sums_are_kept_until_there_is_enough(self) -> None:
        watch = Watch()
        small = {"T6": Martingale(-7.0, 1.0, choices=40)}
        assert [len(watch(small)) for _ in range(3)] == [0, 0, 1]  # 120 choices after three

    def test_what_is_small_but_persistent_adds_up(self) -> None:
        watch = Watch()
        counts = [len(watch(self.at(-2.5))) for _ in range(4)]
        assert counts == [0, 0, 0, 1]  # −10 / √4 = −5 after four rollouts, −5 / √2 = −3.5 after two

    def test_restart_forgets(self) -> None:
        watch = Watch()
        watch({"T6": Martingale(-7.0, 1.0, choices=60)})
        watch.restart()
        assert watch({"T6": Martingale(-7.0, 1.0, choices=60)}) == []


class TestItGoesOn:
    at = staticmethod(TestPolicyOfAlarms.at)

    def again(self, watch: Watch) -> Watch:
        other = Watch()
        other.load_state_dict(watch.state_dict())
        return other

    def test_what_was_suspicious_still_is(self) -> None:
        watch = Watch()
        watch(self.at(-4.5))
        assert [found.severity for found in self.again(watch)(self.at(-4.5))] == ["error"]

    def test_what_adds_up_still_does(self) -> None:
        watch = Watch()
        for _ in range(3):
            assert watch(self.at(-2.5)) == []
        assert len(self.again(watch)(self.at(-2.5))) == 1  # the fourth: −10 / √4

    def test_every_sum_comes_back(self, language: Any, generator: torch.Generator) -> None:
        watch = Watch()
        watch(language.sums(language.draw(6, generator), generator))  # few enough that nothing is begun anew
        other = self.again(watch)
        assert set(other.recent) == set(watch.recent) and set(other.total) == set(watch.total)
        more = language.sums(language.draw(24, generator), generator)
        assert other(more) == watch(more) and other.z == watch.z
        counted = [name for name, one in watch.total.items() if getattr(one, "wave", None) is not None]
        assert counted  # an exact tail is there too
