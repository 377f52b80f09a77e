from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from heed.data.encode import encode_demonstrations, encode_prompts
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.imitation import completions, response_loss
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.records import Demonstration, Turn
from heed.settings.common import LoraSettings, OptimizerSettings
from heed.settings.sft import SFTSettings
from heed.stages import sft

CPU = torch.device("cpu")
TEMPLATE = Template.named("dialogue")
ROWS = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(20)]
HELD_OUT = [{"prompt": f"h{i}" + "?" * i, "response": "xyz"[: 1 + i % 3] * (1 + 2 * i)} for i in range(4)]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def settings(tiny_directory: Path, tmp_path: Path) -> SFTSettings:
    return SFTSettings(
        model=str(tiny_directory), data={"path": write(tmp_path / "train.jsonl", ROWS)}, output=str(tmp_path / "run"),
        validation={"path": write(tmp_path / "held-out.jsonl", HELD_OUT)}, max_tokens=60, batch=8, epochs=1.0,
        lora=LoraSettings(rank=4, alpha=8), optimizer=OptimizerSettings(learning_rate=3e-3), evaluations=2,
        completions=0, completion_tokens=6,
    )  # fmt: skip


def with_(settings: SFTSettings, **changes: Any) -> SFTSettings:
    return SFTSettings(**{**settings.model_dump(), **changes})


def lines(settings: SFTSettings, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(settings.output, name).read_text().splitlines()]


def report(settings: SFTSettings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(settings.output, "report.json").read_text())
    return found


def policy(name: str) -> Policy:
    return Shelf(lambda parameters: torch.float32, CPU).policy(name, "sft")


def by_hand(model: PreTrainedModel, tokenizer: Any, prompt: str, response: str) -> tuple[float, int]:
    """Cross-entropy of a response and its end-of-text token, summed token by token."""
    given = tokenizer(f"\n\nHuman: {prompt}\n\nAssistant:")["input_ids"]
    learned = [*tokenizer(f" {response}")["input_ids"], tokenizer.eos_token_id]
    logits = model(torch.tensor([given + learned])).logits[0].double()
    nats = 0.0
    for i, token in enumerate(learned):
        scores = logits[len(given) - 1 + i]
        nats -= float(scores[token] - scores.logsumexp(0))
    return nats, len(learned)


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_loss_before_training_is_the_cross_entropy_of_the_base_by_hand(
    settings: SFTSettings, tiny_directory: Path
) -> None:
    sft.run(settings)
    model = AutoModelForCausalLM.from_pretrained(tiny_directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    with torch.no_grad():
        sums = [by_hand(model, tokenizer, row["prompt"], row["response"]) for row in HELD_OUT]
    expected = sum(nats for nats, _ in sums) / sum(count for _, count in sums)  # lengths differ: no mean of means
    first = lines(settings)[0]
    assert first["step"] == 0
    assert first["loss/validation"] == pytest.approx(expected, abs=1e-5)
    before = report(settings)["validation_loss"]["before"]
    assert before["estimate"] == pytest.approx(expected, abs=1e-5)
    assert before["low"] < expected < before["high"]
    assert before["n"] == 4


@pytest.mark.parametrize("rank", [4, 0])
def test_microbatches_change_no_number(settings: SFTSettings, tmp_path: Path, rank: int) -> None:
    weights = []
    for i, size in enumerate((1, 100, 8192)):
        options = with_(settings, output=str(tmp_path / f"{i}"), microbatch_tokens=size, lora={"rank": rank})
        sft.run(with_(options, optimizer={"eps": 1e-4}))  # so that Adam does not blow up rounding of tiny gradients
        assert len(lines(options)) == 4  # before training, and three steps
        file = "adapter_model.safetensors" if rank else "model.safetensors"
        weights.append(load_file(tmp_path / f"{i}" / "checkpoint" / file))
    start = load_file(Path(settings.model) / "model.safetensors") if not rank else {}
    for name, tensor in weights[0].items():
        for other in weights[1:]:
            assert_close(other[name], tensor, atol=1e-5, rtol=0)
        if rank == 0 and name in start and "ln" not in name:
            assert float((tensor - start[name]).abs().max()) > 1e-4  # and it has learned something


def test_same_seed_same_metrics(settings: SFTSettings, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sft.run(with_(settings, output=str(tmp_path / name), seed=seed))
        texts.append((tmp_path / name / "metrics.jsonl").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_overfits_eight_demonstrations(settings: SFTSettings, tmp_path: Path) -> None:
    few = [{"prompt": f"q{i}", "response": word} for i, word in enumerate("one two six ten red blue pink gold".split())]
    options = with_(
        settings, data={"path": write(tmp_path / "few.jsonl", few)}, epochs=60.0, lora={"rank": 0},
        optimizer={"learning_rate": 5e-3},
    )  # fmt: skip
    sft.run(options)
    assert lines(options)[-1]["loss/train"] < 0.05
    trained = policy(options.output)
    asked = encode_prompts([(Turn("user", row["prompt"]),) for row in few], TEMPLATE, trained.trunk.tokenizer)
    found = completions.complete(trained, asked, options.completion_tokens, options.microbatch_tokens)
    assert found.texts == [row["response"] for row in few]
    assert all(found.ended)


# ── what is saved ────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(tokens).logits
    return logits


def test_stock_loaders_give_the_same_adapter(settings: SFTSettings, tiny_directory: Path) -> None:
    saved = sft.run(settings) / "checkpoint"
    tokens = torch.tensor([[40, 41, 42, 43, 44, 0]])
    ours = policy(settings.output)
    with ours.active():
        expected = logits_of(ours.trunk.model, tokens)
    base = AutoModelForCausalLM.from_pretrained(tiny_directory)
    assert float((logits_of(base, tokens) - expected).abs().max()) > 1e-3
    for model in (
        AutoModelForCausalLM.from_pretrained(saved),
        AutoPeftModelForCausalLM.from_pretrained(saved),
        PeftModel.from_pretrained(base, saved),
    ):
        assert_close(logits_of(model, tokens), expected, atol=1e-6, rtol=0)


def test_stock_loader_gives_the_same_full_model(settings: SFTSettings) -> None:
    saved = sft.run(with_(settings, lora={"rank": 0})) / "checkpoint"
    tokens = torch.tensor([[40, 41, 42, 43, 44, 0]])
    expected = logits_of(policy(settings.output).trunk.model, tokens)
    assert_close(logits_of(AutoModelForCausalLM.from_pretrained(saved), tokens), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rank", [4, 0])
def test_what_is_saved_is_what_was_measured(settings: SFTSettings, rank: int) -> None:
    sft.run(with_(settings, lora={"rank": rank}))
    saved = policy(settings.output)
    records = [Demonstration((Turn("user", row["prompt"]),), row["response"]) for row in HELD_OUT]
    lessons = encode_demonstrations(records, TEMPLATE, saved.trunk.tokenizer)
    found = report(settings)["validation_loss"]
    assert response_loss.measure(saved, lessons, 1000).mean == pytest.approx(found["after"]["estimate"], abs=1e-5)
    assert lines(settings)[-1]["loss/validation"] == pytest.approx(found["after"]["estimate"], abs=1e-6)
    gain = found["after"]["estimate"] - found["before"]["estimate"]
    assert found["difference"]["estimate"] == pytest.approx(gain, abs=1e-9)


def test_checkpoint_tells_stock_libraries_how_to_use_it(settings: SFTSettings) -> None:
    saved = sft.run(settings) / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(saved)
    messages = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "ab"}]
    text = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert text == TEMPLATE.render((Turn("user", "q1"),))
    said = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    assert sum(said["assistant_masks"]) == len(" ab") + 1  # the loss mask: the response's bytes and end-of-text
    drawn = GenerationConfig.from_pretrained(saved)
    assert (drawn.do_sample, drawn.temperature, drawn.top_k) == (True, 1.0, 0)
    assert (drawn.eos_token_id, drawn.pad_token_id, drawn.max_new_tokens) == (0, 1, 6)
    about = json.loads((saved / "heed.json").read_text())
    assert about["template"] == {"name": "dialogue", "hash": TEMPLATE.hash}
    assert about["base_hash"] == policy(settings.model).trunk.hash
    assert "held-out loss, after" in (saved / "README.md").read_text()
    assert AutoTokenizer.from_pretrained(settings.model).chat_template is None  # the base is as it was


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_too_long_demonstrations_are_dropped_and_counted(settings: SFTSettings, tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.jsonl", [*ROWS, {"prompt": "long", "response": "y" * 60}])
    sft.run(with_(settings, data={"path": path}, epochs=0.1))
    assert report(settings)["demonstrations"] == {
        "training": 20, "held_out": 4, "too_long": {"training": 1, "held_out": 0}
    }  # fmt: skip


def test_held_out_prompts_are_not_trained_on(settings: SFTSettings, tmp_path: Path) -> None:
    path = write(tmp_path / "leaky.jsonl", [*ROWS, {"prompt": HELD_OUT[0]["prompt"], "response": "leak"}])
    sft.run(with_(settings, data={"path": path}, epochs=0.1))
    assert report(settings)["demonstrations"]["training"] == 20


def test_text_is_learned_with_the_demonstrations(settings: SFTSettings, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a line of running text\n" * 60)
    options = with_(settings, pretrain_text=[str(tmp_path / "text.txt")], pretrain_share=0.6)
    sft.run(options)
    assert all(row["loss/text"] > 0 for row in lines(options)[1:])
    assert "loss/text" not in lines(options)[0]


@pytest.mark.parametrize(
    ("changes", "error", "where"),
    [
        ({"data": {}}, ConfigError, "data"),
        ({"pretrain_share": 0.1}, ConfigError, "pretrain_text is empty"),
        ({"pretrain_text": ["books.txt"]}, ConfigError, "pretrain_share is 0"),
        ({"data": {"path": "nowhere.jsonl"}}, DataError, "nowhere.jsonl"),
        ({"pretrain_text": ["nowhere.txt"], "pretrain_share": 0.1}, DataError, "nowhere.txt"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(
    settings: SFTSettings, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type, where: str
) -> None:
    monkeypatch.setattr(sft, "Shelf", None)
    with pytest.raises(error, match=where) as told:
        sft.run(with_(settings, **changes))
    assert told.value.hint
    assert not Path(settings.output).exists()


# ── what the models answer ───────────────────────────────────────────────────────────────────────────────────────────


def test_answers_of_three_models(settings: SFTSettings, capsys: pytest.CaptureFixture[str]) -> None:
    options = with_(settings, completions=3, few_shot=1)
    sft.run(options)
    rows = lines(options, "samples.jsonl")
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in HELD_OUT[:3]]
    assert [row["reference"] for row in rows] == [row["response"] for row in HELD_OUT[:3]]
    assert all(set(row["responses"]) == {"base", "few_shot", "sft"} for row in rows)
    found = report(options)
    for name in ("bleu", "chrf"):
        assert set(found[name]) == {"base", "few_shot", "sft", "difference"}
        assert all(figure["n"] == 3 for figure in found[name].values())
    assert found["eos_rate"]["sft"]["n"] == 3
    assert "first 3 of 3 prompts" in capsys.readouterr().out
