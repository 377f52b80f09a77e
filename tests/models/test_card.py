from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from heed.models.card import Card, write_card

FIGURES = {"BLEU, sft": {"estimate": 12.345678, "low": 10.0, "high": 15.0, "n": 1200}}


def card(base: str, adapter: bool = True) -> Card:
    return Card("mine", "A model.", base, adapter, FIGURES, "seed: 7\n", {"torch": "2.13", "heed": None})


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    write_card(tmp_path, card("openai-community/gpt2"))
    front = ModelCard.load(tmp_path / "README.md").data
    assert front.base_model == "openai-community/gpt2"
    assert (front.library_name, front.pipeline_tag) == ("peft", "text-generation")
    assert front.eval_results[0].metric_value == 12.345678
    assert "10 – 15" in front.eval_results[0].metric_name


def test_text_has_figures_settings_and_versions(tmp_path: Path) -> None:
    write_card(tmp_path, card("gpt2"))
    text = (tmp_path / "README.md").read_text()
    assert "| BLEU, sft | 12.35 | 10 – 15 | 1,200 |" in text
    assert "seed: 7" in text
    assert "torch 2.13" in text
    assert "heed None" not in text


@pytest.mark.parametrize("base", ["/home/somebody/models/base", "./models/base", "runs/mine/checkpoint"])
def test_a_path_of_this_machine_is_not_told(base: str, tmp_path: Path) -> None:
    write_card(tmp_path, card(base, adapter=False))
    text = (tmp_path / "README.md").read_text()
    assert base not in text
    assert ModelCard(text).data.base_model is None
    assert ModelCard(text).data.library_name == "transformers"
