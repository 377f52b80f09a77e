"""Rankings ready to be scored: as tokens, without those that order nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from heed.data.encode import EncodedRanking, encode_rankings
from heed.data.spelled import tell_spelled
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import DataError
from heed.records import Ranking

log = logging.getLogger("heed")


@dataclass(frozen=True)
class RankingSet:
    """Rankings as tokens, the source of each, and how many were lost and why."""

    rankings: list[EncodedRanking]
    sources: list[str]
    lost: dict[str, int]

    @property
    def comparisons(self) -> int:
        """Strictly ordered pairs."""
        return sum(a < b for ranking in self.rankings for a in ranking.ranks for b in ranking.ranks)


def labeling_tasks(rankings: Sequence[EncodedRanking]) -> list[list[EncodedRanking]]:
    """Rankings of the same responses to the same prompt together, in the order in which the first stands.

    InstructGPT trains on all comparisons of a labeling task as one element of a batch (3.5). Whoever saw the responses
    in another order has their ranks put into the first one's.
    """
    tasks: dict[tuple[int, tuple[tuple[int, ...], ...]], list[EncodedRanking]] = {}
    for ranking in rankings:
        task = tasks.setdefault((ranking.response_start, tuple(sorted(map(tuple, ranking.texts)))), [])
        task.append(_in_the_order_of(task[0], ranking) if task else ranking)
    return list(tasks.values())


def _in_the_order_of(first: EncodedRanking, ranking: EncodedRanking) -> EncodedRanking:
    """The ranking of the same texts as they stand in `first`; equal texts keep their order among themselves."""
    ranks = dict(zip(_by_text(first), (ranking.ranks[k] for k in _by_text(ranking)), strict=True))
    return EncodedRanking(first.texts, [ranks[place] for place in range(len(ranks))], first.response_start)


def _by_text(ranking: EncodedRanking) -> list[int]:
    return sorted(range(len(ranking.texts)), key=ranking.texts.__getitem__)


def ranking_set(
    rankings: Sequence[Ranking],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    name: str,
    dropped: Tally | None = None,
) -> RankingSet:
    """Encode rankings; `name` (training, held-out) says in the log and in errors which they are.

    What is lost is added to `dropped`, if that is given. Raises DataError where more than half of what has an order is.
    """
    ordered = [ranking for ranking in rankings if len(set(ranking.ranks)) > 1]
    encoded, told = encode_rankings(ordered, template, tokenizer, max_tokens)
    kept = [(tokens, ranking.source) for tokens, ranking in zip(encoded, ordered, strict=True) if tokens is not None]
    lost = {
        "tied": len(rankings) - len(ordered),
        "identical": told.identical,
        "too_long": told.too_long,
        "cut": told.cut,
    }
    lost |= {"refused": told.refused} if told.refused else {}
    gone = Tally()
    for i, reason in told.reasons.items():
        gone.add(f"rankings with {reason}", ordered[i].where)
    counts = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in lost.items())
    if len(gone) > len(kept) or not kept:
        longest = "raise `max_tokens` (up to the model's context), or give rankings with an order"
        hint = "train with `template: dialogue`" if told.refused > told.too_long + told.identical else longest
        raise DataError(f"{name} rankings", f"{_left(len(kept), len(rankings))}: {counts}", hint)
    if dropped is not None:
        dropped.extend(gone)
    found = RankingSet([tokens for tokens, _ in kept], [source for _, source in kept], lost)
    log.info("%s: %s rankings, %s comparisons; %s", name, f"{len(kept):,}", f"{found.comparisons:,}", counts)
    if gone:
        log.warning("%s: lost %s", name, gone)
    tell_spelled(ordered, template, tokenizer)
    return found


def _left(kept: int, read: int) -> str:
    return f"only {kept:,} of {read:,} are left" if kept else f"none of {read:,} is left"
