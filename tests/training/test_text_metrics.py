from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU, CHRF

from heed.training.text_metrics import overlap_figures, paired_difference

REFERENCES = [
    "the apple is red and the sky is blue today",
    "a dog is an animal that lives in the garden",
    "two plus three is five and not four",
    "the ship sails to the island at night",
] * 5
GOOD = [text.replace("the", "a", 1) for text in REFERENCES]
POOR = ["the apple and the dog is five at night" for _ in REFERENCES]


@pytest.mark.parametrize("metric", [BLEU(), CHRF()], ids=["bleu", "chrf"])
def test_difference_is_that_of_the_corpus_scores(metric: BLEU | CHRF) -> None:
    expected = metric.corpus_score(GOOD, [REFERENCES]).score - metric.corpus_score(POOR, [REFERENCES]).score
    found = paired_difference(metric, GOOD, POOR, REFERENCES, seed=0)
    assert found.estimate == pytest.approx(expected, abs=1e-9)
    assert found.low < expected < found.high
    assert found.low > 0
    assert found.n == 20


def test_difference_has_the_sign_of_its_name() -> None:
    assert paired_difference(CHRF(), POOR, GOOD, REFERENCES, seed=0).high < 0


def test_equal_answers_differ_by_nothing_however_hard_the_prompts() -> None:
    found = paired_difference(BLEU(), GOOD, GOOD, REFERENCES, seed=0)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_figures_of_three_models() -> None:
    answers = {"base": POOR, "few_shot": POOR, "sft": GOOD}
    found = overlap_figures(answers, REFERENCES, "sft", "base", seed=0)
    assert set(found) == {"bleu", "chrf"}
    for figures in found.values():
        assert set(figures) == {"base", "few_shot", "sft", "difference"}
        assert figures["difference"]["estimate"] == pytest.approx(
            figures["sft"]["estimate"] - figures["base"]["estimate"]
        )
        assert all(set(figure) == {"estimate", "low", "high", "n"} for figure in figures.values())
