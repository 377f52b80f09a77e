"""What each setting makes of the logits, by hand; settings at once act in their order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.doctor.events import Context
from heed.doctor.samplers import (
    CAUSES,
    GREEDY,
    GRIDS,
    HALFWAY,
    NEVER,
    REFERENCE,
    STAGES,
    Piece,
    Suspect,
    drawn_by,
    suspect,
)

P = torch.tensor([0.1, 0.4, 0.3, 0.2])
EOS = 0


def piece(prompt: list[int], response: list[int], **known: Any) -> Piece:
    """The tokens of one response, all from `P`; the reference prefers the other end."""
    context = Context.of(
        torch.tensor([prompt]), torch.ones(1, len(prompt)).bool(),
        torch.tensor([response]), torch.ones(1, len(response)).bool(),
    )  # fmt: skip
    logits = known.pop("logits", P.log()).repeat(len(response), 1)
    return Piece(
        logits, P.flip(0).log().repeat(len(response), 1), torch.arange(len(response)), context, eos=(EOS,), **known
    )


def drawn(*settings: Suspect, last: Piece) -> list[float]:
    """Probabilities of the response's last token."""
    q: Tensor = drawn_by(settings, last).exp()[-1]
    return [round(float(one), 4) for one in q]


def shares(*weights: float) -> list[float]:
    return [round(weight / sum(weights), 4) for weight in weights]


CASES = {
    "top_k": (suspect("top_k", 2), shares(0, 0.4, 0.3, 0)),
    "top_p": (suspect("top_p", 0.6), shares(0, 0.4, 0.3, 0)),  # 0.4 is not yet 0.6
    "min_p": (suspect("min_p", 0.6), shares(0, 0.4, 0.3, 0)),  # at least 0.24
    "temperature": (suspect("temperature", 0.5), shares(0.01, 0.16, 0.09, 0.04)),
    "greedy": (Suspect("NK5", GREEDY), [0, 1, 0, 0]),
    "presence": (suspect("presence_penalty", 1.0), shares(0.1, 0.4, 0.3 / math.e, 0.2)),  # 2 was drawn, 3 was asked
    "frequency": (suspect("frequency_penalty", 0.5), shares(0.1, 0.4, 0.3 / math.e, 0.2)),  # twice
    "repetition": (suspect("repetition_penalty", 2.0), shares(0.1, 0.4, 0.09, 0.04)),  # logs are below 0: doubled
    "too short": (suspect("min_new_tokens", 4), shares(0, 0.4, 0.3, 0.2)),
    "long enough": (suspect("min_new_tokens", 2), shares(0.1, 0.4, 0.3, 0.2)),  # two stand before it
    "never": (Suspect("NK4", NEVER), shares(0, 0.4, 0.3, 0.2)),
    "forced": (Suspect("NK24", "end-of-text at length 3"), [1, 0, 0, 0]),
    "forced later": (Suspect("NK24", "end-of-text at length 4"), shares(0.1, 0.4, 0.3, 0.2)),
    "reference": (Suspect("NK13", REFERENCE), shares(0.2, 0.3, 0.4, 0.1)),
    "between": (Suspect("NK13", HALFWAY), shares(math.sqrt(0.02), math.sqrt(0.12), math.sqrt(0.12), math.sqrt(0.02))),
}  # fmt: skip


@pytest.mark.parametrize(("one", "wanted"), CASES.values(), ids=CASES)
def test_a_setting_by_hand(one: Suspect, wanted: list[float]) -> None:
    assert drawn(one, last=piece([3], [2, 2, 1])) == wanted  # before the last token stands 3 2 2


def test_a_nucleus_ends_at_the_token_that_gives_its_share() -> None:
    text = piece([3], [2, 2, 1])
    share = float(text.logits.softmax(-1).sort(dim=1, descending=True).values.cumsum(1)[-1, 1])  # 0.4 + 0.3 as rounded
    assert drawn(Suspect("NK1", f"top_p={share}"), last=text) == shares(0, 0.4, 0.3, 0)


def test_ngrams() -> None:
    text = piece([1, 2], [3, 1, 2])  # before the last token: 1 2 3 1; then 2 would repeat `1 2`
    assert drawn(suspect("no_repeat_ngram_size", 2), last=text) == shares(0.1, 0.4, 0, 0.2)
    assert drawn(suspect("no_repeat_ngram_size", 3), last=text) == shares(0.1, 0.4, 0.3, 0.2)
    longer = piece([1, 2], [3, 1, 2, 0])  # 1 2 3 1 2: then 3 would repeat `1 2 3` and `2 3`
    assert drawn(suspect("no_repeat_ngram_size", 3), last=longer) == shares(0.1, 0.4, 0.3, 0)


def test_the_temperature_of_the_scorer_comes_after_penalties_and_before_cuts() -> None:
    cold = piece([3], [2, 2, 1], temperature=0.5)
    assert drawn(last=cold) == shares(0.01, 0.16, 0.09, 0.04)
    assert drawn(suspect("repetition_penalty", 2.0), last=cold) == shares(0.01, 0.16, 0.0081, 0.0016)
    # of 0.033, 0.533, 0.3 and 0.133 two hold 0.83; of 0.1, 0.4, 0.3 and 0.2 two would hold 0.7
    assert drawn(suspect("top_p", 0.8), last=cold) == shares(0, 0.16, 0.09, 0)
    assert drawn(suspect("temperature", 1.0), last=cold) == shares(0.1, 0.4, 0.3, 0.2)


def test_settings_at_once_act_in_their_order() -> None:
    both = suspect("top_p", 0.8), suspect("temperature", 0.5)
    for order in (both, both[::-1]):
        assert drawn(*order, last=piece([3], [2, 2, 1])) == shares(0, 0.16, 0.09, 0)
    penalised = suspect("top_k", 2), suspect("repetition_penalty", 2.0)  # 2 and 3 fall behind 0
    assert drawn(*penalised, last=piece([3], [2, 2, 1])) == shares(0.1, 0.4, 0, 0)


def test_positive_logits_are_divided_by_a_repetition_penalty() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    found = drawn(suspect("repetition_penalty", 2.0), last=piece([3], [2, 2, 1], logits=logits))
    assert found == shares(1.0, math.e, math.e, math.exp(-2))


def test_names_and_numbers() -> None:
    assert (suspect("top_p", 0.85).name, suspect("top_p", 0.85).number) == ("top_p", 0.85)
    forced = Suspect("NK24", "end-of-text at length 24")
    assert (forced.name, forced.number) == ("end-of-text at length", 24)
    assert Suspect("NK13", REFERENCE).number == 0
    assert set(GRIDS) == set(CAUSES)
    assert set(GRIDS) <= {name for names in STAGES for name in names}
