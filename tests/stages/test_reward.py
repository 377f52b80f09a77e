from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2LMHeadModel

from heed.data.encode import encode_demonstrations
from heed.data.sources import read_demonstrations
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError, DataError
from heed.models.answers import answer, score_answers
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.models.scores import score_texts
from heed.models.trunk import Trunk
from heed.preference.normalise import reference_prompts
from heed.records import Ranking
from heed.rows import threads
from heed.settings.common import DataSettings, LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.reward import EvaluateRewardSettings, RewardSettings
from heed.stages import evaluate_reward, reward
from heed.training.optimizer import MuonWithAdamW
from heed.training.randomness import seed_everything

CPU = torch.device("cpu")
LORA, FULL = LoraSettings(rank=4, alpha=8), LoraSettings(rank=0)
TEMPLATE = {"name": "plain", "hash": Template.named("plain").hash}


@pytest.fixture(scope="module")
def sft(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SFT run whose adapter does something, with the plain template: prompt and response are glued together."""
    place = tmp_path_factory.mktemp("sft") / "run"
    torch.manual_seed(0)  # an adapter begins at random, and this one whichever test came before
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    policy = trained_copy(Policy(trunk), "sft", LORA)
    for parameter in policy.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    save_policy(policy, place / "checkpoint")
    write_metadata(place / "checkpoint", {"kind": "policy", "base_hash": trunk.hash, "template": TEMPLATE})
    return str(place)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return str(path)


def separable(count: int, first: int = 0) -> list[dict[str, Any]]:
    """The better response has a `!`, whatever else it says; the longer one is as often the worse."""
    words = ["yes", "no", "maybe", "so", "well", "fine"]
    rows = []
    for i in range(first, first + count):
        good, bad = f"{words[i % 6]}!{words[(i + 1) % 6]}", words[(i * 5 + 2) % 6] + words[(i + 3) % 6]
        extra = "." * (i % 4)
        pair = (good + extra, bad) if i % 2 else (good, bad + extra)
        rows.append({"prompt": f"q{i}", "chosen": pair[0], "rejected": pair[1], "source": "odd" if i % 2 else "even"})
    return rows


def flipped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


def settings(model: str, data: str, output: Path, **changes: Any) -> RewardSettings:
    chosen = {
        "model": model, "data": data, "output": str(output), "max_tokens": 48, "batch": 8, "microbatch_tokens": 200,
        "lora": LORA, "evaluations": 2, "normalise_prompts": 16, "head_learning_rate": 1e-2, "validation_share": 0.25,
        "sampling": SamplingSettings(max_new_tokens=8, batch=8), "optimizer": OptimizerSettings(learning_rate=1e-2),
    }  # fmt: skip
    return RewardSettings(**{**chosen, **changes})


def metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def load(run: Path | str) -> RewardModel:
    return Shelf(lambda _: torch.float32, CPU).reward_model(str(run), "reward")


@pytest.fixture(scope="module", params=["adapter", "full", "muon"])
def trained(request: pytest.FixtureRequest, sft: str, tmp_path_factory: pytest.TempPathFactory) -> RewardSettings:
    place = tmp_path_factory.mktemp("reward")
    demonstrations = [{"prompt": f"d{i}", "response": "well! yes" + "!" * i} for i in range(9)]
    done = settings(
        sft, write(place / "train.jsonl", separable(160)), place / "run", epochs=2.0,
        lora=LORA if request.param == "adapter" else FULL, method="muon" if request.param == "muon" else "adamw",
        demonstrations=write(place / "demonstrations.jsonl", demonstrations),
    )  # fmt: skip
    reward.run(done)
    return done


# ── where it starts ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_goes_on_from_an_earlier_reward_model(trained: RewardSettings, tmp_path: Path) -> None:
    """With steps of no size the scores are the earlier model's, and its own files stay as they were."""
    before = {path: path.read_bytes() for path in Path(trained.output).rglob("*.safetensors")}
    still = OptimizerSettings(learning_rate=1e-12, weight_decay=0.0)
    changes = {"output": str(tmp_path / "run"), "start_from": trained.output, "epochs": 0.1}
    reward.run(trained.model_copy(update={**changes, "optimizer": still, "head_learning_rate": 1e-12}))
    earlier, later = load(trained.output), load(tmp_path / "run")
    texts = [[40, 41, 0], [50, 51, 52, 53, 0], [60, 0]]
    raw = [(score_texts(model, texts, 100) - model.bias) / model.gain for model in (earlier, later)]
    assert_close(raw[1], raw[0], atol=1e-5, rtol=1e-5)
    assert (raw[0].max() - raw[0].min()) > 0.1
    assert report(tmp_path / "run")["accuracy"] == report(Path(trained.output))["accuracy"]
    assert before and all(path.read_bytes() == content for path, content in before.items())


def test_what_it_goes_on_from_is_trained_further(trained: RewardSettings, tmp_path: Path) -> None:
    """An earlier model that likes `!` learns from the opposite rankings to dislike it."""
    rows = write(tmp_path / "flipped.jsonl", flipped(separable(160)))
    changes = {"output": str(tmp_path / "run"), "start_from": trained.output, "data": DataSettings(path=rows)}
    reward.run(trained.model_copy(update=changes))
    first = metrics(tmp_path / "run")[0]
    assert first["loss/ranking"] > 2 * math.log(2)  # a new head would begin near ln 2
    assert report(tmp_path / "run")["accuracy"]["estimate"] > 0.9


def test_what_it_cannot_go_on_from(trained: RewardSettings, sft: str, tmp_path: Path) -> None:
    def other(**changes: Any) -> RewardSettings:
        return trained.model_copy(update={"output": str(tmp_path / "run"), "start_from": trained.output, **changes})

    with pytest.raises(CheckpointError, match="is a policy model, not a reward model"):
        reward.run(other(start_from=sft))
    moved = tmp_path / "moved"
    shutil.copytree(Path(trained.output) / "checkpoint", moved)
    note = json.loads((moved / "heed.json").read_text())
    write_metadata(moved, {**note, "template": {"name": "dialogue", "hash": "other"}})
    with pytest.raises(CheckpointError, match=r"template dialogue, but .* with plain"):
        reward.run(other(start_from=str(moved)))
    write_metadata(moved, note)
    tokenizer = AutoTokenizer.from_pretrained(moved)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(moved)
    with pytest.raises(CheckpointError, match="its tokenizer has other entries"):
        reward.run(other(start_from=str(moved)))
    if trained.lora.rank == 0:
        with pytest.raises(ConfigError, match=r"lora\.rank.*weights of its own"):
            reward.run(other(lora=LORA))
    assert not (tmp_path / "run").exists()


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_loss_of_the_first_step_by_hand(sft: str, tmp_path: Path) -> None:
    """Rankings of four, three and two responses with ties, scored one text at a time by stock transformers."""
    rankings = [
        {"prompt": "ab", "responses": ["one", "two!", "three", "4"], "ranks": [2, 1, 2, 3]},
        {"prompt": "a longer prompt", "responses": ["x", "yy", "zzz"], "ranks": [3, 1, 2]},
        {"prompt": "c", "responses": ["left", "right"], "ranks": [2, 1]},
        {"prompt": "tie", "responses": ["same", "rank"], "ranks": [1, 1]},
    ]
    held_out = [{"prompt": "h", "responses": ["p", "q"], "ranks": [1, 2]}]
    done = settings(
        sft, write(tmp_path / "train.jsonl", rankings), tmp_path / "run", microbatch_tokens=50, evaluations=1,
        validation=write(tmp_path / "held_out.jsonl", held_out),
    )  # fmt: skip
    reward.run(done)
    trunk = Shelf(lambda _: torch.float32, CPU).policy(sft, "sft").trunk
    body, tokenizer = trunk.merged_copy("sft").model.transformer, trunk.tokenizer
    weight = new_head(32, torch.Generator().manual_seed(0)).weight[0]

    def score(prompt: str, response: str) -> float:
        tokens = tokenizer(prompt).input_ids + tokenizer(response).input_ids + [tokenizer.eos_token_id]
        with torch.no_grad():
            return float(body(torch.tensor([tokens])).last_hidden_state[0, -1] @ weight)

    losses, centring = [], []
    for row in rankings[:3]:
        scores = [score(row["prompt"], response) for response in row["responses"]]
        ranks = row["ranks"]
        pairs = [(a, b) for i, a in enumerate(scores) for j, b in enumerate(scores) if ranks[i] < ranks[j]]
        losses.append(sum(math.log1p(math.exp(-(a - b))) for a, b in pairs) / len(pairs))
        centring.append(sum((a + b) ** 2 for a, b in pairs) / len(pairs))
    first = metrics(tmp_path / "run")[0]
    assert first["loss/ranking"] == pytest.approx(sum(losses) / 3, abs=1e-4)  # the tied prompt is not among the three
    assert first["loss/centring"] == pytest.approx(sum(centring) / 3, abs=1e-4)
    assert report(tmp_path / "run")["dropped"]["training"]["tied"] == 1


def test_neither_microbatches_nor_threads_change_the_parameters(
    sft: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "train.jsonl", separable(32))
    weights = []
    coarse = {"learning_rate": 1e-2, "eps": 1e-4}  # or rounding decides where weights of no gradient go
    for tokens, count in ((1, 1), (100, 1), (100_000, 1), (100_000, 2)):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        done = settings(
            sft, data, tmp_path / f"{tokens}-{count}", microbatch_tokens=tokens, optimizer=coarse, evaluations=1
        )
        reward.run(done)
        assert len(metrics(Path(done.output))) == 3
        weights.append(load_file(Path(done.output, "checkpoint", "adapter_model.safetensors")))
    start = load_file(Path(sft, "checkpoint", "adapter_model.safetensors"))
    for name, value in weights[0].items():
        for other in weights[1:]:
            assert_close(other[name], value, atol=1e-5, rtol=0)
    assert any((weights[0][name] - value).abs().max() > 1e-3 for name, value in start.items())


def test_the_report_is_of_the_last_held_out_scores(trained: RewardSettings) -> None:
    last, found = metrics(Path(trained.output))[-1], report(Path(trained.output))
    for key in ("estimate", "low", "high", "n"):
        row = last["validation/accuracy" + ("" if key == "estimate" else f"_{key}")]
        assert row == pytest.approx(found["accuracy"][key])


def test_the_report_is_of_all_held_out_rankings_though_few_are_scored_while_it_trains(
    sft: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "WHILE_TRAINING", 2)
    done = settings(sft, write(tmp_path / "train.jsonl", separable(32)), tmp_path / "run")
    reward.run(done)
    seen = [row["validation/accuracy_n"] for row in metrics(tmp_path / "run") if "validation/accuracy_n" in row]
    assert seen == [2, 2]  # always the same ones: what moves between two rows is the model
    assert report(tmp_path / "run")["accuracy"]["n"] > 2


def test_same_seed_same_numbers(sft: str, tmp_path: Path) -> None:
    data = write(tmp_path / "train.jsonl", separable(24))
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        reward.run(settings(sft, data, tmp_path / name, seed=seed, evaluations=1))
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert report(tmp_path / "a") == report(tmp_path / "b")


# ── what it learns ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_learns_a_separable_preference(trained: RewardSettings, tmp_path: Path) -> None:
    rows = metrics(Path(trained.output))
    assert abs(rows[0]["loss/ranking"] - math.log(2)) < 0.3
    assert rows[-1]["accuracy/train"] > 0.85
    assert report(Path(trained.output))["accuracy"]["estimate"] > 0.9
    new = separable(60, 500)
    for name, data, low, high in (("new", new, 0.9, 1), ("flipped", flipped(new), 0, 0.1)):
        done = EvaluateRewardSettings(
            model=trained.output, data=write(tmp_path / f"{name}.jsonl", data), output=str(tmp_path / name)
        )
        evaluate_reward.run(done)
        found = report(tmp_path / name)
        assert low <= found["accuracy"]["estimate"] <= high
        assert (found["nll"]["estimate"] < math.log(2)) == (name == "new")


def test_the_method_chooses_the_optimiser_and_the_head_keeps_its_rate() -> None:
    parameters = {name: torch.nn.Parameter(torch.ones(2, 2)) for name in ("h.0.attn.weight", "score.weight")}
    for method, kind in (("muon", MuonWithAdamW), ("adamw", torch.optim.AdamW)):
        chosen = settings("m", "d", Path("o"), method=method, head_learning_rate=3e-2)
        optimizer = reward.optimizer_for(parameters, chosen)
        assert isinstance(optimizer, kind)
        peaks = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
        assert [peaks[id(parameter)] for parameter in parameters.values()] == [1e-2, 3e-2]


def test_metrics_hold_intervals_when_due(trained: RewardSettings) -> None:
    rows = metrics(Path(trained.output))
    due = [row for row in rows if "validation/accuracy" in row]
    assert [row["step"] for row in due] == [len(rows) // 2, len(rows)]
    last, final = due[-1], report(Path(trained.output))
    for name in ("accuracy", "nll"):
        expected = {f"validation/{name}": final[name]["estimate"], f"validation/{name}_low": final[name]["low"]}
        assert {key: last[key] for key in expected} == pytest.approx(expected)


def test_held_out_prompts_are_never_trained_on(sft: str, tmp_path: Path) -> None:
    data = write(tmp_path / "train.jsonl", separable(40))
    training, held_out = reward.read_splits(settings(sft, data, tmp_path))
    assert len(held_out) == 10
    assert not {r.group for r in training} & {r.group for r in held_out}
    overlapping = write(tmp_path / "held_out.jsonl", separable(8, 36))
    training, held_out = reward.read_splits(settings(sft, data, tmp_path, validation=overlapping))
    assert (len(training), len(held_out)) == (36, 8)


def test_halves_share_no_prompt_and_hold_out_the_same(sft: str, tmp_path: Path) -> None:
    data = write(tmp_path / "train.jsonl", separable(40))
    splits = {half: reward.read_splits(settings(sft, data, tmp_path, half=half)) for half in ("all", "first", "second")}
    groups = {half: {r.group for r in training} for half, (training, _) in splits.items()}
    assert groups["first"]
    assert groups["second"]
    assert not groups["first"] & groups["second"]
    assert groups["first"] | groups["second"] == groups["all"]
    assert splits["first"][1] == splits["second"][1] == splits["all"][1]


# ── the checkpoint ───────────────────────────────────────────────────────────────────────────────────────────────────


def prompts_of(rankings: list[Ranking], reference: Policy, done: RewardSettings) -> list[list[int]]:
    asked = done.normalise_prompts, done.sampling.max_new_tokens, done.seed
    return reference_prompts(rankings, Template.named("plain"), reference, done.max_tokens, *asked, Tally())


def test_demonstrations_average_0_and_reference_samples_have_sd_1(trained: RewardSettings) -> None:
    model = load(trained.output)
    template = Template.named("plain")
    demonstrations = read_demonstrations(trained.demonstrations, trained.seed)
    texts = [d.tokens for d in encode_demonstrations(demonstrations, template, model.trunk.tokenizer)]
    assert float(score_texts(model, texts, 500).mean()) == pytest.approx(0, abs=1e-5)
    shelf = Shelf(lambda _: torch.float32, CPU)
    reference = shelf.policy(trained.model, "sft")
    rankings, _ = reward.read_splits(trained)
    prompts = prompts_of(rankings, reference, trained)
    assert len(prompts) == trained.normalise_prompts
    answers = answer(reference, prompts, trained.sampling, seed_everything(trained.seed))
    scores = score_answers(model, answers, 8)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-4)
    note = open_checkpoint(trained.output).metadata["reward"]
    assert (note["n"], note["demonstrations"], note["seed"]) == (16, 9, trained.seed)
    assert (note["gain"], note["bias"]) == (model.gain, model.bias)


def test_without_demonstrations_reference_samples_average_0(sft: str, tmp_path: Path) -> None:
    done = settings(sft, write(tmp_path / "train.jsonl", separable(24)), tmp_path / "run")
    reward.run(done)
    model, reference = load(done.output), Shelf(lambda _: torch.float32, CPU).policy(sft, "sft")
    prompts = prompts_of(reward.read_splits(done)[0], reference, done)
    answers = answer(reference, prompts, done.sampling, seed_everything(0))
    assert float(score_answers(model, answers, 8).mean()) == pytest.approx(0, abs=1e-5)


TEXTS = ["q1yes!no", "a longer prompt than thatfine!", "x", "q7nomaybe..."]


def test_stock_libraries_give_the_raw_scores(trained: RewardSettings, tiny_directory: Path) -> None:
    checkpoint = Path(trained.output, "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    batch = tokenizer([text + tokenizer.eos_token for text in TEXTS], return_tensors="pt", padding=True)
    assert not batch.attention_mask.all()
    if trained.lora.rank:
        base = AutoModelForSequenceClassification.from_pretrained(tiny_directory, num_labels=1)
        stock = PeftModel.from_pretrained(base, checkpoint)
        assert stock.config.pad_token_id == tokenizer.pad_token_id
    else:
        stock = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        assert stock.config.pad_token_id == tokenizer.pad_token_id
        note = open_checkpoint(trained.output).metadata["reward"]
        assert (stock.config.reward_gain, stock.config.reward_bias) == (note["gain"], note["bias"])
    with torch.no_grad():
        theirs = stock.eval()(**batch).logits[:, 0]
    texts = [row[mask.bool()].tolist() for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
    model = load(trained.output)
    assert_close(score_texts(model.normalised(1.0, 0.0), texts, 500), theirs, atol=1e-5, rtol=0)
    assert_close(score_texts(model, texts, 500), model.gain * theirs + model.bias, atol=1e-4, rtol=0)


def test_the_sft_model_is_left_as_it_was(trained: RewardSettings, sft: str, tiny_directory: Path) -> None:
    """The reward model is a copy: neither the base nor the SFT adapter on it has moved."""
    shelf = Shelf(lambda _: torch.float32, CPU)
    policy = shelf.policy(sft, "sft")
    before = GPT2LMHeadModel.from_pretrained(tiny_directory).transformer.h[0].mlp.c_fc.weight
    assert torch.equal(policy.trunk.plain_state()["transformer.h.0.mlp.c_fc.weight"], before)
    weights = load_file(Path(sft, "checkpoint", "adapter_model.safetensors"))
    if trained.lora.rank:
        moved = load_file(Path(trained.output, "checkpoint", "adapter_model.safetensors"))
        assert set(weights) < set(moved)
        assert all((moved[name] - value).abs().max() > 0 for name, value in weights.items())
    head = load(trained.output).head.weight
    assert (head - new_head(32, torch.Generator().manual_seed(0)).weight).abs().max() > 1e-3


# ── evaluate-reward ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_report_of_evaluate_reward_by_hand(trained: RewardSettings, tmp_path: Path) -> None:
    rankings = [
        {"prompt": "ab", "responses": ["one!", "two", "three"], "ranks": [2, 1, 2], "source": "x"},
        {"prompt": "cd", "responses": ["!", "right"], "ranks": [1, 2], "source": "y"},
        {"prompt": "ef", "responses": ["same", "rank"], "ranks": [2, 2], "source": "z"},
    ]
    data = write(tmp_path / "rankings.jsonl", rankings)
    evaluate_reward.run(EvaluateRewardSettings(model=trained.output, data=data, output=str(tmp_path / "run")))
    found = report(tmp_path / "run")
    model = load(trained.output).normalised(1.0, 0.0)
    accuracies, losses = [], []
    for row in rankings[:2]:
        tokens = [[2 + byte_index(c) for c in row["prompt"] + text] + [0] for text in row["responses"]]
        scores, ranks = score_texts(model, tokens, 500).tolist(), row["ranks"]
        margins = [a - b for i, a in enumerate(scores) for j, b in enumerate(scores) if ranks[i] < ranks[j]]
        accuracies.append(sum(margin > 0 for margin in margins) / len(margins))
        losses.append(sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins))
    assert found["accuracy"]["estimate"] == pytest.approx(sum(accuracies) / 2)
    assert found["nll"]["estimate"] == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert set(found["by_source"]) == {"x", "y"}
    assert found["by_source"]["y"]["nll"]["estimate"] == pytest.approx(losses[1], abs=1e-5)
    for figures in (found, *found["by_source"].values()):
        assert all(set(figures[name]) == {"estimate", "low", "high", "n"} for name in ("accuracy", "nll"))
    assert found["dropped"]["tied"] == 1
    assert found["counts"]["comparisons"] == 3


def byte_index(character: str) -> int:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet()).index(character)


@pytest.mark.parametrize("trained", ["adapter"], indirect=True)
def test_public_formats_give_the_same_report(trained: RewardSettings, tmp_path: Path) -> None:
    pairs = separable(12, 900)
    asked = [f"\n\nHuman: {row['prompt']}\n\nAssistant:" for row in pairs]
    files = {
        "trl.jsonl": [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in pairs],
        "static.jsonl.gz": [
            {"prompt": text, "response": "?", "chosen": " " + row["chosen"], "rejected": " " + row["rejected"]}
            for text, row in zip(asked, pairs, strict=True)
        ],
        "hh.jsonl.gz": [
            {side: f"{text} {row[side]}" for side in ("chosen", "rejected")}
            for text, row in zip(asked, pairs, strict=True)
        ],
        "kwise.jsonl": [
            {"prompt": row["prompt"], "responses": [row["rejected"], row["chosen"]], "ranks": [2, 1]} for row in pairs
        ],
    }
    checkpoint = tmp_path / "dialogue"  # the plain template would keep the space before an answer
    shutil.copytree(Path(trained.output, "checkpoint"), checkpoint)
    template = {"name": "dialogue", "hash": Template.named("dialogue").hash}
    write_metadata(checkpoint, {**open_checkpoint(str(checkpoint)).metadata, "template": template})
    reports = []
    for name, rows in files.items():
        output = tmp_path / name.partition(".")[0]
        data = write(tmp_path / name, rows)
        evaluate_reward.run(EvaluateRewardSettings(model=str(checkpoint), data=data, output=str(output)))
        reports.append(report(output))
    first = reports[0]
    assert first["accuracy"]["n"] == 12
    for other in reports[1:]:
        assert other["accuracy"] == first["accuracy"]
        assert other["nll"]["estimate"] == pytest.approx(first["nll"]["estimate"], abs=1e-6)


# ── what a person can mend ───────────────────────────────────────────────────────────────────────────────────────────


def test_errors_come_before_anything_is_written(sft: str, tmp_path: Path) -> None:
    data, run = write(tmp_path / "train.jsonl", separable(8)), tmp_path / "run"
    with pytest.raises(ConfigError, match="no rankings are named"):
        reward.run(settings(sft, "", run))
    with pytest.raises(ConfigError, match="leaves no room for a prompt in 8 tokens"):
        reward.run(settings(sft, data, run, max_tokens=8))
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        reward.run(settings(sft, str(tmp_path / "nowhere.jsonl"), run))
    with pytest.raises(CheckpointError, match="no such directory"):
        reward.run(settings(str(tmp_path / "nothing"), data, run))
    with pytest.raises(DataError, match="cannot be split"):
        reward.run(settings(sft, write(tmp_path / "one.jsonl", separable(1)), run))
    with pytest.raises(CheckpointError, match="is a policy model, not a reward model"):
        evaluate_reward.run(EvaluateRewardSettings(model=sft, data=data, output=str(run)))
    assert not run.exists()


def test_rankings_that_order_nothing(sft: str, tmp_path: Path) -> None:
    ties = [{"prompt": f"p{i}", "responses": ["a", "b"], "ranks": [1, 1]} for i in range(8)]
    with pytest.raises(DataError, match="none of 6 is left: 6 tied"):
        reward.run(settings(sft, write(tmp_path / "ties.jsonl", ties), tmp_path / "run"))


def test_a_finished_run_is_not_overwritten(trained: RewardSettings) -> None:
    with pytest.raises(ConfigError, match="holds a finished run"):
        reward.run(trained)
