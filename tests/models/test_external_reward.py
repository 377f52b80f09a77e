from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from heed.errors import CheckpointError
from heed.models.external_reward import ExternalReward

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
WORDS += ["red", "green", "blue", "what", "colour", "is", "the", "sky", "no", "yes", "it"]


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with a tokenizer that no policy shares, reading [CLS] question [SEP] answer [SEP]."""
    path = tmp_path_factory.mktemp("judge")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_max_length=16, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(path)  # fmt: skip
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(path)
    return path


def test_pair_form_reads_question_and_answer_as_two_segments(judge: Path) -> None:
    external = ExternalReward.load(str(judge), "pair", 2, torch.device("cpu"))
    scores = external.score_texts(["what colour is the sky", "is it red"], ["blue", "no"])
    ids = torch.tensor([[1, 7, 8, 9, 10, 11, 2, 6, 2]])
    segments = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 1, 1]])
    stock = BertForSequenceClassification.from_pretrained(judge).eval()
    expected = stock(input_ids=ids, token_type_ids=segments).logits[0, 0].detach()
    assert_close(scores[0], expected, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_the_batch_and_keep_their_order(judge: Path) -> None:
    questions = ["what colour is the sky", "is it red", "no", "is the sky blue"]
    answers = ["blue blue blue", "no", "yes it is", "red"]
    one, four = (ExternalReward.load(str(judge), "pair", size, torch.device("cpu")) for size in (1, 4))
    assert_close(one.score_texts(questions, answers), four.score_texts(questions, answers), atol=1e-5, rtol=0)


def test_too_long_a_question_is_cut_and_the_answer_kept(judge: Path) -> None:
    external = ExternalReward.load(str(judge), "pair", 4, torch.device("cpu"))
    long = "what colour is the sky " * 10
    scores = external.score_texts([long, long], ["blue", "red"])
    assert scores[0] != scores[1]


def test_text_form_and_normalisation(judge: Path) -> None:
    external = ExternalReward.load(str(judge), "text", 4, torch.device("cpu"))
    raw = external.score_texts(["what colour is the sky"], [" blue"])
    assert_close(external.normalised(2.0, -3.0).score_texts(["what colour is the sky"], [" blue"]), 2 * raw - 3)


def test_a_model_that_is_not_there_and_one_that_gives_two_numbers(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nobody/no-judge: cannot be loaded"):
        ExternalReward.load("nobody/no-judge", "pair", 4, torch.device("cpu"))
    BertForSequenceClassification(BertConfig(
        vocab_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2,
    )).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(CheckpointError, match="gives 2 numbers"):
        ExternalReward.load(str(tmp_path), "pair", 4, torch.device("cpu"))


def test_a_model_without_a_trained_head_is_refused(judge: Path, tmp_path: Path) -> None:
    """transformers would give it random weights, and PPO a random reward."""
    body = BertForSequenceClassification.from_pretrained(judge).bert
    body.config.num_labels = 1
    body.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no weights for classifier"):
        ExternalReward.load(str(tmp_path), "pair", 4, torch.device("cpu"))


def decoder_judge(path: Path, pad: str | None, positions: int = 64) -> Path:
    """A GPT-2 classifier on words, with or without a pad token, that pads on the left if nobody says otherwise."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token="[SEP]", unk_token="[UNK]", padding_side="left"
    ).save_pretrained(path)
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=positions, num_labels=1, bos_token_id=2,
        eos_token_id=2, pad_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(path)
    return path


TEXTS = ["red", "what colour is the sky", "blue is it"]


@pytest.mark.parametrize("pad", [None, "[PAD]", "[ADDED]"])
def test_a_classifier_without_a_usable_pad_token_scores_as_each_text_alone(tmp_path: Path, pad: str | None) -> None:
    """`[ADDED]` is an entry that the model has no embedding for."""
    path = decoder_judge(tmp_path, pad)
    found = ExternalReward.load(str(path), "text", 3, torch.device("cpu")).score_texts(TEXTS, [" no", "", " yes"])
    stock = GPT2ForSequenceClassification.from_pretrained(path).eval()
    index = {word: i for i, word in enumerate(WORDS)}
    for score, text in zip(found, ["red no", TEXTS[1], "blue is it yes"], strict=True):
        alone = stock(torch.tensor([[index[word] for word in text.split()]])).logits[0, 0].detach()
        assert_close(score, alone, atol=1e-5, rtol=0)


def test_words_that_a_classifier_has_no_embedding_for(tmp_path: Path) -> None:
    path = decoder_judge(tmp_path, "[PAD]")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(path)
    with pytest.raises(CheckpointError, match="zebra"):
        ExternalReward.load(str(path), "text", 3, torch.device("cpu"))


@pytest.mark.parametrize("form", ["pair", "text"])
def test_texts_longer_than_its_positions(tmp_path: Path, form: str) -> None:
    """Its tokenizer knows no limit: the model's own is kept, even by an answer that alone is longer."""
    external = ExternalReward.load(str(decoder_judge(tmp_path, "[PAD]", 12)), form, 2, torch.device("cpu"))
    assert external.longest == 12
    scores = external.score_texts(["what colour is the sky " * 9] * 3, ["red", "blue " * 40, "red " + "blue " * 39])
    assert scores.isfinite().all()
    assert scores[0] != scores[1]


def test_robertas_positions_begin_after_its_pad_tokens(tmp_path: Path) -> None:
    path = decoder_judge(tmp_path, "[PAD]")
    config = RobertaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=14, num_labels=1, pad_token_id=1,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(path)
    external = ExternalReward.load(str(path), "text", 2, torch.device("cpu"))
    assert external.longest == 12
    assert external.score_texts(["what colour is the sky " * 9], [""]).isfinite().all()


def test_an_adapter_is_no_classifier_and_the_hint_says_what_is(tiny_directory: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_directory)
    get_peft_model(base, LoraConfig(target_modules=["c_attn"])).save_pretrained(tmp_path)
    config = tmp_path / "adapter_config.json"
    told = json.loads(config.read_text()) | {"base_model_name_or_path": str(tiny_directory)}
    config.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="is an adapter, not a whole classifier") as caught:
        ExternalReward.load(str(tmp_path), "text", 4, CPU)
    assert f"heed export {tmp_path} --merge" in caught.value.hint
