from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2LMHeadModel

from heed.data.prompts import take_shots, until_next_turn
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError
from heed.evaluation.judge import Judge
from heed.models.answers import answer
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.records import Prompt, Turn
from heed.report.blocks import FigureTable
from heed.report.command import page_of
from heed.report.words import is_figure
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import LoraSettings, SamplingSettings
from heed.settings.evaluate import EvaluateSettings
from heed.stages import best_of_n, evaluate

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)
SAMPLING = SamplingSettings(max_new_tokens=12, batch=4)


def template(name: str) -> dict[str, str]:
    return {"name": name, "hash": Template.named(name).hash}


@pytest.fixture(scope="module")
def runs(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`sft` and `ppo`, two adapters of the tiny base, `sft_again`, equal to `sft`, `alpaca` of another template, and
    two reward models, `reward` and `other`."""
    place = tmp_path_factory.mktemp("runs")
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    about = {"base_hash": trunk.hash, "template": template("plain")}
    for seed, name in enumerate(("sft", "ppo", "reward", "other")):
        policy = trained_copy(Policy(trunk), name, LORA)
        generator = torch.Generator().manual_seed(seed)
        for parameter in policy.parameters().values():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
        if name in ("sft", "ppo"):
            save_policy(policy, place / name / "checkpoint")
            write_metadata(place / name / "checkpoint", {**about, "kind": "policy"})
        else:
            head = new_head(trunk.width, generator).requires_grad_(False)
            save_scalar(RewardModel(trunk, name, head), place / name / "checkpoint")
            normalised = {"reward": {"gain": 0.5, "bias": 1.0}}
            write_metadata(place / name / "checkpoint", {**about, **normalised, "kind": "reward"})
    for name, known in (("sft_again", "plain"), ("alpaca", "alpaca")):
        save_policy(Policy(trunk, "sft"), place / name)
        write_metadata(place / name, {**about, "template": template(known), "kind": "policy"})
    return {path.name: str(path) for path in place.iterdir()} | {"base": str(tiny_directory)}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eleven prompts with a reference, one of them too long for prompt and response to fit into 64 positions."""
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    rows: list[dict[str, Any]] = [{"prompt": f"ask {i}{'?' * (i % 4)}", "reference": "yes it is so"} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "x" * 60}]))
    return str(path)


def settings(runs: dict[str, str], names: list[str], prompts: str, output: Path, **changes: Any) -> EvaluateSettings:
    models = {name: runs[name] for name in names}
    chosen = {"models": models, "prompts": prompts, "sampling": SAMPLING, "output": str(output)}
    return EvaluateSettings(**{**chosen, **changes})


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(runs: dict[str, str], prompts: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sft, ppo and the bare base under two reward models, with running text."""
    place = tmp_path_factory.mktemp("evaluate")
    (place / "text.txt").write_text("Once upon a time there was a text. " * 20 + "<|endoftext|>" + "Another one. " * 20)
    judges = {"proxy": runs["reward"], "gold": runs["other"]}
    done = settings(
        runs, ["sft", "ppo", "base"], prompts, place / "run", reward_models=judges, text=(str(place / "text.txt"),)
    )
    evaluate.run(done)
    return place / "run"


def test_a_model_against_itself(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    done = settings(runs, ["sft", "sft_again"], prompts, tmp_path / "run", reward_models={"rm": runs["reward"]})
    evaluate.run(done)
    found = report(tmp_path / "run")
    assert found["models"]["sft"] == found["models"]["sft_again"]
    for kind in ("exact", "k1"):
        figure = found["models"]["sft_again"]["kl"][kind]
        assert (figure["estimate"], figure["low"], figure["high"]) == (0.0, 0.0, 0.0)
    versus = found["against_baseline"]["sft_again"]["rm"]
    for name, value in (("win_rate", 0.5), ("length_controlled_win_rate", 0.5), ("score_difference", 0.0)):
        assert versus[name] == {"estimate": value, "low": value, "high": value, "n": 10}
    assert all(row["responses"]["sft"] == row["responses"]["sft_again"] for row in rows(tmp_path / "run"))


def test_every_figure_has_its_interval_and_n(finished: Path) -> None:
    found = report(finished)
    assert found["baseline"] == found["reference"] == "sft"
    assert found["judge"] == "proxy"
    assert (found["prompts"], found["dropped"]["too_long"]) == (10, 1)
    for model in found["models"].values():
        figures = [*model["score"].values(), *model["kl"].values()]
        figures += [model[name] for name in ("length", "eos_rate", "bleu", "chrf", "nats_per_token")]
        assert len(figures) == 9
        for figure in figures:
            assert figure["low"] <= figure["estimate"] + 1e-9
            assert figure["estimate"] <= figure["high"] + 1e-9
            assert figure["n"] >= 5
    assert set(found["against_baseline"]) == {"ppo", "base"}
    assert found["models"]["sft"]["kl"]["exact"]["estimate"] == 0.0
    assert found["models"]["ppo"]["kl"]["exact"]["low"] > 0
    nats = {name: model["nats_per_token"]["estimate"] for name, model in found["models"].items()}
    for name, rise in found["nats_per_token_rise"].items():
        assert rise["estimate"] == pytest.approx(nats[name] - nats["sft"], abs=1e-6)
    assert set(found["nats_per_token_rise"]) == {"ppo", "base"}


def test_rows_hold_what_the_report_sums_up(finished: Path) -> None:
    written, found = rows(finished), report(finished)
    assert [row["prompt"] for row in written] == [f"ask {i}{'?' * (i % 4)}" for i in range(10)]  # all, in order
    for name, model in found["models"].items():
        for judge in ("proxy", "gold"):
            scores = [row["scores"][name][judge] for row in written]
            assert sum(scores) / 10 == pytest.approx(model["score"][judge]["estimate"], abs=1e-6)
        assert sum(row["kl"][name] for row in written) / 10 == pytest.approx(model["kl"]["exact"]["estimate"], abs=1e-6)
        assert sum(row["finished"][name] for row in written) / 10 == pytest.approx(model["eos_rate"]["estimate"])
    won = [row["scores"]["ppo"]["gold"] - row["scores"]["sft"]["gold"] for row in written]
    versus = found["against_baseline"]["ppo"]["gold"]
    assert versus["win_rate"]["estimate"] == pytest.approx(sum((x > 0) + 0.5 * (x == 0) for x in won) / 10)
    assert versus["score_difference"]["estimate"] == pytest.approx(sum(won) / 10, abs=1e-6)


def test_running_text_is_measured_like_stock_transformers(finished: Path, tiny_directory: Path) -> None:
    stock = GPT2LMHeadModel.from_pretrained(tiny_directory)
    documents = ["Once upon a time there was a text. " * 20, "Another one. " * 20]
    tokenizer = Shelf(lambda _: torch.float32, CPU).policy(str(tiny_directory), "x").trunk.tokenizer
    stream = [token for text in documents for token in [*tokenizer(text.strip()).input_ids, tokenizer.eos_token_id]]
    pieces = torch.tensor(stream[: len(stream) // 64 * 64]).view(-1, 64)
    with torch.no_grad():
        expected = sum(float(stock(piece[None], labels=piece[None]).loss) for piece in pieces) / len(pieces)
    assert report(finished)["models"]["base"]["nats_per_token"]["estimate"] == pytest.approx(expected, rel=1e-4)


def test_kl_is_measured_from_the_named_reference(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    evaluate.run(settings(runs, ["sft", "ppo"], prompts, tmp_path / "run", reference="ppo"))
    found = report(tmp_path / "run")
    assert found["models"]["ppo"]["kl"]["exact"]["estimate"] == 0.0
    assert found["models"]["sft"]["kl"]["exact"]["estimate"] > 0
    assert found["judge"] is None
    assert found["against_baseline"] == {"ppo": {}}


def test_few_shot_base_stands_beside_base_and_hides_its_demonstrations_from_judges(
    runs: dict[str, str], prompts: str, tmp_path: Path
) -> None:
    done = settings(runs, ["sft", "base"], prompts, tmp_path / "run", few_shot=1, reward_models={"rm": runs["reward"]})
    evaluate.run(done)
    found = report(tmp_path / "run")
    assert {name: model["few_shot"] for name, model in found["models"].items()} == {
        "sft": 0, "base": 0, "base-1-shot": 1,
    }  # fmt: skip
    assert "kl" in found["models"]["base"]
    assert "kl" not in found["models"]["base-1-shot"]
    assert set(found["against_baseline"]) == {"base", "base-1-shot"}
    bare, shown = ([row["responses"][name] for row in rows(tmp_path / "run")] for name in ("base", "base-1-shot"))
    assert bare != shown
    rest = tmp_path / "rest.jsonl"
    rest.write_text("\n".join(Path(prompts).read_text().splitlines()[1:]))
    evaluate.run(settings(runs, ["sft", "base"], str(rest), tmp_path / "without"))
    assert bare == [row["responses"]["base"] for row in rows(tmp_path / "without")]
    assert found["prompts"] == 9  # the demonstration is no longer asked
    shelf = Shelf(lambda _: torch.float32, CPU)
    judge = Judge.load(shelf, runs["reward"], "judge")
    for row in rows(tmp_path / "run"):
        text = row["responses"]["base-1-shot"]
        if text.isascii():  # other bytes are not read back as the same tokens
            asked = (Turn("user", row["prompt"]),)
            expected = judge.scores_of_texts([asked], [text], [row["finished"]["base-1-shot"]], 1)
            assert row["scores"]["base-1-shot"]["rm"] == pytest.approx(float(expected[0]), abs=1e-4)
    (tables,) = (
        block
        for part in page_of(tmp_path / "run").sections
        for block in part.blocks
        if isinstance(block, FigureTable) and block.title == "Mean score by rm"
    )
    assert [row.name for row in tables.figures] == ["base", "base-1-shot", "sft"]


def test_few_shot_without_room_or_without_a_bare_model_is_told_at_once(
    runs: dict[str, str], prompts: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="demonstrations, prompt and response need"):
        evaluate.run(settings(runs, ["sft", "base"], prompts, tmp_path / "other", few_shot=4))
    assert not (tmp_path / "other").exists()  # before anybody answers
    with pytest.raises(ConfigError, match="every model is fine-tuned"):
        evaluate.check(settings(runs, ["sft", "ppo"], prompts, tmp_path / "run", few_shot=1))
    named = {"models": {"base": runs["base"], "base-2-shot": runs["ppo"]}}
    with pytest.raises(ConfigError, match="base-2-shot is what `few_shot` is called"):
        evaluate.check(settings(runs, [], prompts, tmp_path / "run", few_shot=2, **named))


def test_shots_are_short_and_leave_the_rest() -> None:
    records = [Prompt((Turn("user", f"q{i}"),), "a" * (i + 1)) for i in range(5)]
    shots, rest = take_shots(records, 2)
    assert [turn.content for turn in shots] == ["q0", "a", "q1", "aa"]
    assert [turn.role for turn in shots] == ["user", "assistant"] * 2
    assert rest == records[2:]
    assert take_shots(records, 0) == ((), records)
    with pytest.raises(ConfigError, match="0 prompts have a reference"):
        take_shots([Prompt((Turn("user", "q"),))], 1)


def test_an_answer_ends_before_the_next_turn() -> None:
    assert until_next_turn("yes \n\nHuman: and\n\nAssistant: no") == ("yes", True)
    assert until_next_turn("yes\n\n### Instruction:\nmore") == ("yes", True)
    assert until_next_turn("yes\n\nno") == ("yes\n\nno", False)


def test_a_judge_reads_tokens_or_words(runs: dict[str, str], tiny_directory: Path) -> None:
    """From words it reads the same as from tokens, where the words say the tokens."""
    shelf = Shelf(lambda _: torch.float32, CPU)
    policy, judge = shelf.policy(runs["sft"], "sft"), Judge.load(shelf, runs["reward"], "judge")
    plain = Template.named("plain")
    texts = [f"ask {i}" for i in range(12)]
    asked = [(Turn("user", text),) for text in texts]
    answers = answer(
        policy, [policy.trunk.tokenizer(text).input_ids for text in texts], SAMPLING, torch.Generator().manual_seed(0)
    )
    from_tokens = judge.scores(asked, answers, policy, plain, 4)
    from_words = judge.scores(asked, answers, policy, Template.named("dialogue"), 4)  # not the judge's own template
    tokenizer = policy.trunk.tokenizer
    kept = answers.responses.mask & (answers.responses.tokens != tokenizer.eos_token_id)
    exact = [
        tokenizer(text).input_ids == row[mask].tolist()
        for text, row, mask in zip(answers.texts, answers.responses.tokens, kept, strict=True)
    ]
    assert_close(from_tokens[exact], from_words[exact], atol=1e-4, rtol=0)
    assert not torch.equal(from_tokens, from_words)


def test_templates_must_agree(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"was trained with template alpaca, but .*sft with plain"):
        evaluate.run(settings(runs, ["sft", "alpaca"], prompts, tmp_path / "run"))
    bare, trained = open_checkpoint(runs["base"]), open_checkpoint(runs["alpaca"])
    assert evaluate.common_template({"base": bare, "alpaca": trained}) == "alpaca"
    assert evaluate.common_template({"base": bare}) == "dialogue"
    assert not (tmp_path / "run").exists()


def test_what_a_person_can_mend(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="no prompts are named"):
        evaluate.run(settings(runs, ["sft", "ppo"], "", run))
    with pytest.raises(ConfigError, match="'x' is not in `models`"):
        evaluate.run(settings(runs, ["sft", "ppo"], prompts, run, reference="x"))
    with pytest.raises(CheckpointError, match="is a policy model, not a reward model"):
        evaluate.run(settings(runs, ["sft", "ppo"], prompts, run, reward_models={"rm": runs["sft"]}))
    assert not run.exists()
    with pytest.raises(ConfigError, match="leaves no room for a prompt in the model's 64 positions"):
        evaluate.run(settings(runs, ["sft", "ppo"], prompts, run, sampling={"max_new_tokens": 64}))


def test_same_seed_same_report(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        evaluate.run(settings(runs, ["sft", "ppo"], prompts, tmp_path / name, seed=seed))
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")
    assert report(tmp_path / "a")["models"] == report(tmp_path / "b")["models"]
    assert not math.isclose(report(tmp_path / "a")["models"]["ppo"]["kl"]["k1"]["estimate"], 0)


def test_judges_that_compare(
    runs: dict[str, str], prompts: str, finished: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """People ranked what an earlier evaluation left; an endpoint likes the longer answer wherever it stands."""
    ranked = [
        {
            "prompt": row["prompt"],
            "responses": [row["responses"]["sft"], row["responses"]["ppo"]],
            "ranks": [2, 1 + i % 2],
        }
        for i, row in enumerate(rows(finished)[:6])
    ]
    people = tmp_path / "rankings.jsonl"
    people.write_text("".join(json.dumps(row) + "\n" for row in ranked if len(set(row["responses"])) == 2))

    def longer(self: Any, client: Any, prompt: Any, first: str, second: str) -> str:
        return "A" if len(first) > len(second) else "B" if len(second) > len(first) else "tie"

    monkeypatch.setattr("heed.evaluation.endpoint.Endpoint.ask", longer)
    judge = {"url": "http://127.0.0.1:9/v1", "model": "m", "prompts": 4}
    evaluate.run(
        settings(
            runs, ["sft", "ppo"], prompts, tmp_path / "run", people=str(people), endpoint=judge, overlap=("rouge",)
        )
    )  # fmt: skip
    found = report(tmp_path / "run")
    assert rows(tmp_path / "run")[0]["responses"]["ppo"] == rows(finished)[0]["responses"]["ppo"]  # the very same
    versus = found["against_baseline"]["ppo"]
    assert versus["people"]["win_rate"]["estimate"] == pytest.approx(0.75)  # wins and ties by turns
    assert versus["people"]["win_rate"]["n"] == 6
    assert found["judged"]["people"]["ppo"] == {"asked": 10, "read": 6}
    sides = [(len(row["responses"]["ppo"]), len(row["responses"]["sft"])) for row in rows(tmp_path / "run")[:4]]
    expected = [0.5 * (1 + (a > b) - (a < b)) for a, b in sides]
    assert versus["endpoint"]["win_rate"]["estimate"] == pytest.approx(sum(expected) / 4)
    assert "length_controlled_win_rate" in versus["endpoint"]
    assert found["judge"] == "people"
    assert "rougeL" in found["models"]["ppo"]
    assert "bleu" not in found["models"]["ppo"]


def test_diversity_and_reference_loss(finished: Path) -> None:
    found = report(finished)
    for model in found["models"].values():
        assert 0 < model["distinct_2"]["estimate"] <= 1
        assert 0 <= model["self_bleu"]["estimate"] <= 100
        assert model["reference_nats_per_token"]["n"] == 10
    nats = {name: model["reference_nats_per_token"]["estimate"] for name, model in found["models"].items()}
    for name, rise in found["reference_nats_rise"].items():
        assert rise["estimate"] == pytest.approx(nats[name] - nats["sft"], abs=1e-6)


def test_best_of_n_is_a_model_among_the_others(
    finished: Path, runs: dict[str, str], prompts: str, tmp_path: Path
) -> None:
    """Its answers are those of `heed best-of-n` under the same seed; the first judge chose them, the other did not."""
    judges = {"proxy": runs["reward"], "other": runs["other"]}
    names = ["sft", "ppo"]
    evaluate.run(settings(runs, names, prompts, tmp_path / "run", reward_models=judges, best_of=4))
    alone = BestOfNSettings(
        model=runs["sft"], reward_model=runs["reward"], judge=runs["other"], prompts=prompts, n=4, sampling=SAMPLING,
        output=str(tmp_path / "alone"),
    )  # fmt: skip
    best_of_n.run(alone)
    found, winners = report(tmp_path / "run"), rows(tmp_path / "alone")
    assert list(found["models"]) == ["sft", "ppo", "best-of-4"]
    for row, winner in zip(rows(tmp_path / "run"), winners, strict=True):
        assert row["responses"]["best-of-4"] == winner["response"]
        assert row["scores"]["best-of-4"]["proxy"] == pytest.approx(winner["score"], abs=1e-4)
        assert row["scores"]["best-of-4"]["other"] == pytest.approx(winner["judge_score"], abs=1e-4)
    model = found["models"]["best-of-4"]
    assert "kl" not in model and model["kl_bound"] == pytest.approx(math.log(4) - 3 / 4)
    assert rows(tmp_path / "run")[0]["responses"]["ppo"] == rows(finished)[0]["responses"]["ppo"]  # drawn as ever
    tables = [block for part in page_of(tmp_path / "run").sections for block in part.blocks]
    assert "best-of-4, at most" in [
        row.name for table in tables if isinstance(table, FigureTable) for row in table.figures
    ]


def test_best_of_n_needs_somebody_who_chooses_and_a_name(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing chooses the best"):
        evaluate.check(settings(runs, ["sft", "ppo"], prompts, tmp_path / "run", best_of=4))
    named = {"models": {"sft": runs["sft"], "best-of-4": runs["ppo"]}, "reward_models": {"rm": runs["reward"]}}
    with pytest.raises(ConfigError, match="what `best_of` is called"):
        evaluate.check(settings(runs, [], prompts, tmp_path / "run", best_of=4, **named))


def figures_in(found: Any, path: str = "") -> dict[str, float]:
    """The estimates anywhere in a report, by where they stand."""
    if is_figure(found):
        return {path: found["estimate"]}
    inside = found.items() if isinstance(found, dict) else ()
    return {name: value for key, part in inside for name, value in figures_in(part, f"{path}/{key}").items()}


def test_the_page_shows_every_figure(finished: Path) -> None:
    """But for k1, which checks the exact KL, single words, and differences of scores, which win rates tell."""
    tables = [block for part in page_of(finished).sections for block in part.blocks if isinstance(block, FigureTable)]
    shown = {figure.estimate for table in tables for figure in table.figures}
    told = figures_in(report(finished))
    missing = [name for name, value in told.items() if value not in shown]
    assert {name.rpartition("/")[2] for name in missing} <= {"k1", "distinct_1", "score_difference"}
    assert {"bleu", "self_bleu", "reference_nats_per_token"} <= {name.rpartition("/")[2] for name in told}


def test_names_and_halves_of_judges_are_told(runs: dict[str, str], prompts: str, tmp_path: Path) -> None:
    both = settings(runs, ["sft", "ppo"], prompts, tmp_path / "run", gold=True, reward_models={"gold": runs["reward"]})
    with pytest.raises(ConfigError, match="gold is another judge's name"):
        evaluate.check(both)
    half = settings(runs, ["sft", "ppo"], prompts, tmp_path / "run", endpoint={"url": "http://x/v1"})
    with pytest.raises(ConfigError, match="needs both url and model"):
        evaluate.check(half)
