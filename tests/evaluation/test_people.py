from __future__ import annotations

from heed.evaluation.people import Rankings
from heed.evaluation.rouge import rouge
from heed.records import Ranking, Turn

ASKED = [(Turn("user", f"q{i}"),) for i in range(5)]


def ranked(prompt: int, responses: str, ranks: list[int]) -> Ranking:
    return Ranking(ASKED[prompt], tuple(responses), tuple(ranks), (True,) * len(ranks))


def test_outcomes_are_means_over_people_of_these_very_answers() -> None:
    rankings = Rankings(
        [
            ranked(0, "abc", [1, 2, 3]),
            ranked(0, "ba", [1, 1]),  # somebody else: a tie
            ranked(1, "ba", [1, 2]),
            ranked(2, "ac", [1, 2]),  # b was not among them
        ]
    )
    found = rankings.outcomes(ASKED, ["a"] * 5, ["b", "b", "b", "b", "a"])
    assert found == [0.75, 0.0, None, None, None]
    assert rankings.outcomes(ASKED[1:2], ["a\0"], ["b"]) == [0.0]  # as words are mended where files are read
    assert rankings.outcomes(ASKED[:2], ["b"] * 2, ["a"] * 2) == [0.25, 1.0]


def test_rouge_by_hand() -> None:
    # "the cat sat" against "the cat ran": 2 of 3 words, 1 of 2 pairs, subsequence of 2; then nothing is shared
    found = rouge(["the cat sat", "x"], ["the cat ran", "y"])
    assert [round(found[kind].estimate, 4) for kind in ("rouge1", "rouge2", "rougeL")] == [0.3333, 0.25, 0.3333]
    assert (found["rougeL"].low, found["rougeL"].n) == (0.0, 2)
    # words are stemmed
    assert rouge(["running"], ["runs"])["rouge1"].estimate == 1.0
