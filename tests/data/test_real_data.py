"""Smoke tests on real data, where `HEED_DATA_DIR` names a directory of it."""

from __future__ import annotations

from pathlib import Path

from heed.data.encode import encode_demonstrations, encode_rankings
from heed.data.hygiene import clean, split_by_group
from heed.data.sources import read_demonstrations, read_prompts, read_rankings, read_texts
from heed.data.template import Template
from heed.settings.common import DataSettings, HygieneSettings


def test_instructions(data_dir: Path, tokenizer) -> None:
    records = read_demonstrations(DataSettings(path=str(data_dir / "sft/alpaca.val.jsonl.gz")), 0)
    assert len(records) > 1000
    template = Template.named("alpaca")
    for record, encoded in zip(records, encode_demonstrations(records, template, tokenizer), strict=True):
        assert tokenizer.decode(encoded.tokens) == (
            template.render(record.prompt) + template.response_text(record.response) + "<|endoftext|>"
        )


def test_preferences(data_dir: Path, tokenizer) -> None:
    records = read_rankings(DataSettings(path=str(data_dir / "preferences/preferences.test.jsonl.gz")), 0)
    assert len(records) > 2000
    assert all(record.prompt[-1].role == "user" for record in records)
    encoded, report = encode_rankings(records, Template.named("dialogue"), tokenizer, 2048)
    assert report.identical == 0
    assert sum(ranking is not None for ranking in encoded) > 0.95 * len(records)
    train, held_out = split_by_group(records, 0.1, 0)
    assert not {r.group for r in train} & {r.group for r in held_out}


def test_prompts(data_dir: Path, tokenizer) -> None:
    records = read_prompts(DataSettings(path=str(data_dir / "prompts/prompts.val.jsonl.gz"), limit=1000), 0)
    kept, report = clean(records, HygieneSettings(), Template.named("alpaca"), tokenizer)
    assert len(kept) == report.kept > 500


def test_text(data_dir: Path) -> None:
    documents = read_texts([str(data_dir / "text/*.txt.xz")], 200_000)
    assert 100_000 < sum(map(len, documents)) <= 200_000
