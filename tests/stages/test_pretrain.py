from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.data.batch import text_rows
from heed.data.encode import encode_texts
from heed.errors import ConfigError, DataError
from heed.models.load import load_tokenizer
from heed.models.text_loss import text_loss
from heed.models.tokenizer import train_tokenizer
from heed.rows.threads import RowThreads
from heed.settings.common import OptimizerSettings
from heed.settings.pretrain import PretrainSettings
from heed.stages import pretrain

CPU = torch.device("cpu")
SOUNDS = {"cow": "moo", "dog": "woof", "cat": "meow", "hen": "cluck", "owl": "hoot"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 little dialogues, of 16 tokens each, so that rows of 21 begin anywhere in them."""
    animals = random.Random(0).choices(list(SOUNDS), k=300)
    documents = [f"\n\nHuman: what says the {name}?\n\nAssistant: it says {SOUNDS[name]}." for name in animals]
    path = tmp_path_factory.mktemp("text") / "animals.txt"
    path.write_text("<|endoftext|>".join(documents))
    return path


@pytest.fixture
def settings(text: Path, tmp_path: Path) -> PretrainSettings:
    return PretrainSettings(
        text=[str(text)], output=str(tmp_path / "run"), validation_share=0.1, tokenizer="words", vocabulary=64,
        layers=2, width=32, heads=2, context=32, batch=8, sequence=21, epochs=2.0, dtype="float32",
        optimizer=OptimizerSettings(learning_rate=1e-2),
    )  # fmt: skip


def with_(settings: PretrainSettings, **changes: Any) -> PretrainSettings:
    return PretrainSettings(**{**settings.model_dump(), **changes})


def lines(settings: PretrainSettings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(settings.output, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("kind", "vocabulary", "dtype"), [("words", 64, "float32"), ("bytes", 300, "bfloat16")])
def test_learns_more_than_how_frequent_tokens_are(
    settings: PretrainSettings, kind: str, vocabulary: int, dtype: str
) -> None:
    options = with_(settings, tokenizer=kind, vocabulary=vocabulary, dtype=dtype, epochs=6.0)
    pretrain.run(options)
    found = json.loads(Path(options.output, "report.json").read_text())
    loss = found["validation_loss"]
    nothing = math.log(found["vocabulary"])  # of a model that knows nothing; logits of variance 1 cost half a nat more
    assert nothing - 0.1 < loss["before"]["estimate"] < nothing + 1
    assert loss["after"]["high"] < 0.6 * loss["unigram"]
    assert loss["after"]["low"] < loss["after"]["estimate"] < loss["after"]["high"]
    assert loss["after"]["n"] > 5
    assert lines(options)[-1]["loss/validation"] == pytest.approx(loss["after"]["estimate"], abs=1e-6)


def test_writes_documents_that_end(settings: PretrainSettings) -> None:
    saved = pretrain.run(with_(settings, epochs=6.0)) / "checkpoint"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    asked = tokenizer("<|endoftext|>Human: what says the cow?\n\nAssistant:", return_tensors="pt")
    drawn = model.generate(**asked, do_sample=False)
    text = tokenizer.decode(drawn[0], skip_special_tokens=True)
    assert text in {f"Human: what says the cow?\n\nAssistant: it says {sound}." for sound in SOUNDS.values()}
    assert drawn[0, -1] == tokenizer.eos_token_id  # documents end, and it learned that they do


def test_stock_model_has_the_measured_loss(settings: PretrainSettings, text: Path) -> None:
    saved = pretrain.run(settings) / "checkpoint"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    _, held_out = pretrain.split(text.read_text().split("<|endoftext|>"), settings)  # outer newlines are stripped there
    rows = text_rows(encode_texts([document.strip() for document in held_out], tokenizer), 21, 0)
    with torch.no_grad():
        logits = model(rows).logits[:, :-1].reshape(-1, len(tokenizer))
    found = json.loads(Path(settings.output, "report.json").read_text())["validation_loss"]["after"]["estimate"]
    assert float(cross_entropy(logits, rows[:, 1:].reshape(-1))) == pytest.approx(found, abs=1e-4)
    assert load_tokenizer(str(saved)).pad_token_id != tokenizer.eos_token_id
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.n_positions) == (0, 0, 1, 32)
    assert config.tie_word_embeddings
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_gradient_is_that_of_the_mean_cross_entropy(settings: PretrainSettings, text: Path, threads: int) -> None:
    tokenizer = train_tokenizer("words", [text.read_text()], 64, 32)
    model = pretrain.new_model(tokenizer, settings, CPU)
    rows = torch.randint(3, len(tokenizer), (4, 16))
    gradients = []
    with model.trainable() as parameters:
        weight = parameters["transformer.h.0.attn.c_attn.weight"]
        loss = pretrain.backpropagate(model, rows, settings, RowThreads(threads))
        gradients.append(weight.grad.clone())
        weight.grad = None
        logits = model.trunk.model(rows).logits[:, :-1].reshape(-1, len(tokenizer))
        expected = cross_entropy(logits, rows[:, 1:].reshape(-1))
        expected.backward()
        gradients.append(weight.grad)
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
    assert float(text_loss(model, rows, 2).mean()) == pytest.approx(loss, abs=1e-5)


def test_bfloat16_products_leave_float32_weights(settings: PretrainSettings, text: Path) -> None:
    tokenizer = train_tokenizer("words", [text.read_text()], 64, 32)
    rows = torch.randint(3, len(tokenizer), (4, 16))
    losses = {}
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        options = with_(settings, dtype=dtype)
        model = pretrain.new_model(tokenizer, options, CPU)
        with model.trainable() as parameters:
            losses[dtype] = pretrain.backpropagate(model, rows, options)
            assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
            assert {parameter.grad.dtype for parameter in parameters.values()} == {torch.float32}
    assert losses["bfloat16"] != losses["float32"]  # rounded, but
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)


def test_same_seed_same_metrics(settings: PretrainSettings, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain.run(with_(settings, output=str(tmp_path / name), seed=seed, epochs=0.5))
        texts.append((tmp_path / name / "metrics.jsonl").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_unigram_loss_by_hand() -> None:
    # tokens 0, 1, 1, 2 and one more of each of four entries: 2, 3, 2, 1 of 8; the first token of a row is given
    training, held_out = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[3, 1, 0]])
    expected = -(math.log(3 / 8) + math.log(2 / 8)) / 2
    assert pretrain.unigram_loss(training, held_out, 4) == pytest.approx(expected, abs=1e-6)


def test_documents_are_held_out_whole(settings: PretrainSettings) -> None:
    documents = [f"document {i}" for i in range(20)]
    training, held_out = pretrain.split(documents, settings)
    assert len(held_out) == 2  # a tenth
    assert sorted(training + held_out) == sorted(documents)
    assert pretrain.split(documents, settings) == (training, held_out)
    assert pretrain.split(documents, with_(settings, seed=1)) != (training, held_out)
    assert [len(part) for part in pretrain.split(documents[:2], settings)] == [1, 1]


def test_end_of_a_single_document_is_held_out(settings: PretrainSettings) -> None:
    assert pretrain.split(["0123456789"], settings) == (["012345678"], ["9"])


def test_unknown_words_are_told(settings: PretrainSettings, caplog: pytest.LogCaptureFixture) -> None:
    pretrain.run(with_(settings, vocabulary=16, epochs=0.1))
    assert "unknown words: raise `vocabulary`" in caplog.text


@pytest.mark.parametrize(
    ("changes", "error", "where"),
    [
        ({"heads": 3}, ConfigError, "heads"),
        ({"sequence": 64}, ConfigError, "sequence"),
        ({"text": ["nowhere.txt"]}, DataError, "nowhere.txt"),
        ({"limit_characters": 60}, DataError, "text has fewer"),
        ({"tokenizer": "bytes"}, ConfigError, "vocabulary"),
    ],
)
def test_mistakes_are_told(settings: PretrainSettings, changes: dict[str, Any], error: type, where: str) -> None:
    with pytest.raises(error, match=where) as told:
        pretrain.run(with_(settings, **changes))
    assert told.value.hint
