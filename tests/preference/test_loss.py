from __future__ import annotations

from heed.data.encode import EncodedRanking
from heed.preference.loss import tokens_a_response


def test_a_prompt_counts_once_among_its_responses_when_rows_are_grouped() -> None:
    prompt, responses = [1] * 7, ([2] * 3, [2] * 5)
    ranking = EncodedRanking([prompt + response for response in responses], [1, 2], len(prompt))
    assert tokens_a_response(ranking) == 5 + 4  # the longest response, and half of seven tokens
