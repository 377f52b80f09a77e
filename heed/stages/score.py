"""Every response with its score: which pairs does a reward model get wrong? They can go back to the people who rank."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from heed.data.encode import EncodedRanking, RankingReport, encode_rankings
from heed.data.files import read_rows
from heed.data.rankings import ranking_set
from heed.data.sources import read_rankings
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.formulas.scored_rankings import headline, reward_report
from heed.labeling.queue import queue
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf, weight_count
from heed.models.scores import different_texts, scored_rankings
from heed.preference.scoring import scored_in_steps
from heed.records import Candidates, Ranking, prompt_to_json, read_jsonl
from heed.settings.reward import ScoreSettings
from heed.training.device import pick_device, pick_dtype
from heed.training.figures import print_figures
from heed.training.files import write_text
from heed.training.randomness import seed_everything
from heed.training.run_dir import RunDir

SCORES, WRONG = "scores.jsonl", "wrong.jsonl"

log = logging.getLogger("heed")
Row = dict[str, Any]


def run(settings: ScoreSettings) -> Path:
    """Score every response of the rankings or candidates: `scores.jsonl`, `wrong.jsonl`, `report.json`."""
    if not settings.data.path:
        raise ConfigError("data", "nothing to score is named", "give rankings, comparisons or candidates: --data FILE")
    checkpoint = open_checkpoint(settings.model, "reward")
    ranked = not holds_candidates(settings)
    judged = read_rankings(settings.data, settings.seed) if ranked else as_rankings(settings)
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
        model = shelf.reward_model(checkpoint, "reward")
        tokenizer, room = model.trunk.tokenizer, min(settings.max_tokens, model.trunk.context)
        template = Template.named(checkpoint.template or "dialogue", tokenizer)
        held_out = ranking_set(judged, template, tokenizer, room, "scored") if ranked else None
        encoded, lost = encode_rankings(judged, template, tokenizer, room)
        texts = different_texts([row for row in encoded if row is not None])
        if not texts:
            raise DataError(settings.data.path, f"nothing is left to score: {lost}", _advice(lost))
        options = settings.microbatch_tokens, generator, settings.save_every
        raw = scored_in_steps(run_dir, "score", model, list(texts), *options)
        normalised = {text: model.gain * float(raw[i]) + model.bias for text, i in texts.items()}
        rows = list(scored_rows(judged, encoded, normalised, ranked))
        write_rows(run_dir.path / SCORES, rows)
        wrong = worst_pairs(rows) if ranked else []
        write_rows(run_dir.path / WRONG, wrong)
        report: Row = {"model": settings.model, "responses": len(texts), "dropped": len(judged) - len(rows)}
        if held_out is not None:
            own = raw[[texts[text] for text in different_texts(held_out.rankings)]]
            report |= reward_report(scored_rankings(held_out.rankings, held_out.sources, own), settings.seed)
            report |= {"dropped": held_out.lost, "wrong": {"pairs": sum(len(row["wrong"]) for row in rows)}}
            print_figures(headline(report), f"{settings.model} on {len(held_out.rankings):,} rankings")
        run_dir.write_json("report.json", report)
        queue_worst(settings, wrong, run_dir)
        run_dir.finished("heed", "label", str(run_dir.path / (WRONG if wrong else SCORES)))
    return run_dir.path


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def holds_candidates(settings: ScoreSettings) -> bool:
    """Whether the file holds responses that nobody has ranked (what `heed sample` writes)."""
    columns = read_rows(settings.data)[0].columns
    return "responses" in columns and "ranks" not in columns


def as_rankings(settings: ScoreSettings) -> list[Ranking]:
    """Candidates in the form of rankings in which everything is tied."""
    return [
        Ranking(row.prompt, row.responses, (1,) * len(row.responses), row.finished, source=row.source, group=row.group)
        for row in read_jsonl(Path(settings.data.path).expanduser(), Candidates)
    ]


# ── what it leaves ───────────────────────────────────────────────────────────────────────────────────────────────────


def scored_rows(
    judged: Sequence[Ranking],
    encoded: Sequence[EncodedRanking | None],
    scores: dict[tuple[int, ...], float],
    ranked: bool,
) -> Iterator[Row]:
    """A row for each ranking that could be scored. `wrong`: pairs (i, j) of which people prefer i, and the model j."""
    for ranking, tokens in zip(judged, encoded, strict=True):
        if tokens is None:
            continue
        own = [scores[tuple(text)] for text in tokens.texts]
        row: Row = {"prompt": prompt_to_json(ranking.prompt), "responses": list(ranking.responses)}
        row |= {"finished": list(ranking.finished), "scores": own}
        if ranked:
            places = range(len(own))
            row["ranks"] = list(ranking.ranks)
            row["wrong"] = [
                [i, j] for i in places for j in places if ranking.ranks[i] < ranking.ranks[j] and own[i] < own[j]
            ]
        tags = {"labeler": ranking.labeler, "source": ranking.source, "group": ranking.group}
        yield row | {name: value for name, value in tags.items() if value}


def _advice(lost: RankingReport) -> str:
    """What helps against the reason for which most were lost."""
    if lost.identical >= max(lost.too_long, lost.refused):
        return "give prompts with different responses: sample several at a temperature above 0"
    return "raise `max_tokens`" if lost.too_long >= lost.refused else "give prompts that the model's template takes"


def worst_pairs(rows: Sequence[Row]) -> list[Row]:
    """Of each prompt the pair that the model gets most wrong, the widest margin first, ready to be ranked again."""
    worst: dict[str, Row] = {}
    for row in rows:
        for i, j in row["wrong"]:
            pair: Row = {name: row[name] for name in ("prompt", "source", "group") if name in row}
            pair |= {name: [row[name][i], row[name][j]] for name in ("responses", "finished", "scores")}
            pair["margin"] = row["scores"][j] - row["scores"][i]
            key = json.dumps(row["prompt"])
            if key not in worst or worst[key]["margin"] < pair["margin"]:
                worst[key] = pair
    return sorted(worst.values(), key=lambda pair: -pair["margin"])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A file of rows, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def queue_worst(settings: ScoreSettings, wrong: Sequence[Row], run_dir: RunDir) -> None:
    """The worst mistakes as tasks of a labeling database, where one is named."""
    if not settings.queue:
        return
    path = run_dir.path / "queued.jsonl"
    write_rows(path, wrong[: settings.queue_most])
    added = queue(settings.queue, path, settings.queue_mode) if wrong else 0
    log.info("queued %d of %d pairs that the model gets wrong in %s", added, len(wrong), settings.queue)
