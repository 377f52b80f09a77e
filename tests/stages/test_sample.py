from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.errors import CheckpointError, ConfigError
from heed.formulas.kl import best_of_n_kl
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.records import Candidates, Demonstration, read_jsonl
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import HygieneSettings, SamplingSettings
from heed.settings.evaluate import SampleSettings
from heed.stages import best_of_n, sample

CPU = torch.device("cpu")
PLAIN = {"template": {"name": "plain", "hash": ""}}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve short prompts of 5 to 8 bytes, each its own group, a near duplicate, and one of 30 bytes."""
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    asked = [f"ask {chr(97 + i)}{'?' * (i % 4)}" for i in range(12)]
    rows = [{"prompt": text, "group": f"g{i}", "source": "made"} for i, text in enumerate([*asked, asked[3], "x" * 30])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def plain(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tiny model as a heed checkpoint of the plain template, and two reward models on it."""
    place = tmp_path_factory.mktemp("models")
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    trunk.model.save_pretrained(place / "sft")
    trunk.tokenizer.save_pretrained(place / "sft")
    write_metadata(place / "sft", {**PLAIN, "kind": "policy"})
    for seed, name in enumerate(("reward", "judge")):
        head = new_head(trunk.width, torch.Generator().manual_seed(seed)).requires_grad_(False)
        save_scalar(RewardModel(trunk, None, head), place / name)
        write_metadata(place / name, {**PLAIN, "kind": "reward", "reward": {"gain": 0.5, "bias": 1.0}})
    return {path.name: str(path) for path in place.iterdir()}


def settings(model: str, prompts: str, output: Path, **changes: Any) -> SampleSettings:
    chosen = {
        "model": model, "prompts": prompts, "output": str(output), "responses": 3,
        "hygiene": HygieneSettings(max_prompt_tokens=20), "sampling": SamplingSettings(max_new_tokens=20, batch=5),
    }  # fmt: skip
    return SampleSettings(**{**chosen, **changes})


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def test_candidates_stand_with_their_prompts(plain: dict[str, str], prompts: str, tmp_path: Path) -> None:
    sample.run(settings(plain["sft"], prompts, tmp_path / "run"))
    found = read_jsonl(tmp_path / "run" / "candidates.jsonl", Candidates)
    assert [row.prompt[0].content for row in found] == [f"ask {chr(97 + i)}{'?' * (i % 4)}" for i in range(12)]
    assert [row.group for row in found] == [f"g{i}" for i in range(12)]
    assert {len(row.responses) for row in found} == {len(row.finished) for row in found} == {3}
    assert {(row.model, row.source) for row in found} == {(plain["sft"], "made")}
    told = report(tmp_path / "run")
    assert told["prompts"] == 12
    assert (told["dropped"]["near_duplicates"], told["dropped"]["too_long"]) == (1, 1)
    ended = sum(flag for row in found for flag in row.finished) / 36
    assert told["eos_rate"]["estimate"] == pytest.approx(ended)
    assert 0 < ended < 1
    different = sum(len(set(row.responses)) == 3 for row in found) / 12
    assert told["all_different"]["estimate"] == pytest.approx(different)


def test_a_prompt_is_read_once_for_all_its_copies(
    plain: dict[str, str], prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    hidden = Trunk.hidden

    def counting(trunk: Trunk, tokens: Tensor, *rest: Any) -> Tensor:
        if tokens.shape[1] > 1:
            read.append(len(tokens))
        return hidden(trunk, tokens, *rest)

    monkeypatch.setattr(Trunk, "hidden", counting)
    sample.run(settings(plain["sft"], prompts, tmp_path / "run"))
    assert [rows for rows in read if rows > 1] == [5, 5, 2]  # single rows are the checks at load


def test_same_seed_same_candidates(plain: dict[str, str], prompts: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample.run(settings(plain["sft"], prompts, tmp_path / name, seed=seed))
    texts = [(tmp_path / name / "candidates.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_a_bare_model_is_asked_in_the_dialogue_template(tiny_directory: Path, prompts: str, tmp_path: Path) -> None:
    """21 bytes of markers leave no room for the long prompt, nor here for one of 8 bytes."""
    hygiene = HygieneSettings(max_prompt_tokens=28)
    sample.run(settings(str(tiny_directory), prompts, tmp_path / "run", hygiene=hygiene))
    assert report(tmp_path / "run")["dropped"]["too_long"] == 4


def test_what_a_person_can_mend(plain: dict[str, str], prompts: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="no prompts are named"):
        sample.run(settings(plain["sft"], "", run))
    with pytest.raises(CheckpointError, match="is a reward model, not a policy model"):
        sample.run(settings(plain["reward"], prompts, run))
    assert not run.exists()
    with pytest.raises(ConfigError, match="leaves no room for a prompt"):
        sample.run(settings(plain["sft"], prompts, run, sampling={"max_new_tokens": 64}))


# ── best-of-n ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def best(plain: dict[str, str], prompts: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("best") / "run"
    best_of_n.run(
        BestOfNSettings(
            model=plain["sft"], reward_model=plain["reward"], judge=plain["judge"], prompts=prompts, output=str(output),
            n=6, hygiene=HygieneSettings(max_prompt_tokens=20), sampling=SamplingSettings(max_new_tokens=12, batch=5),
        )
    )  # fmt: skip
    return output


def test_curve_of_best_of_n(best: Path) -> None:
    found = report(best)
    assert [at["n"] for at in found["curve"]] == [1, 2, 4, 6]
    assert [at["kl_bound"] for at in found["curve"]] == pytest.approx([best_of_n_kl(n) for n in (1, 2, 4, 6)])
    scores = [at["score"]["estimate"] for at in found["curve"]]
    rows = [json.loads(line) for line in (best / "samples.jsonl").read_text().splitlines()]
    assert scores[0] == pytest.approx(sum(row["mean_score"] for row in rows) / 12, abs=1e-5)
    assert scores[-1] == pytest.approx(sum(row["score"] for row in rows) / 12, abs=1e-5)
    judged = [at["judge"]["estimate"] for at in found["curve"]]
    assert judged[-1] == pytest.approx(sum(row["judge_score"] for row in rows) / 12, abs=1e-5)
    assert found["winners"]["eos_rate"]["estimate"] == pytest.approx(sum(row["finished"] for row in rows) / 12)


@pytest.mark.parametrize(
    "price", [{"mode": "none"}, {"mode": "subtract", "value": 0.5}, {"mode": "replace", "value": 9}]
)
def test_the_best_is_what_ppo_would_be_paid_most_for(
    price: dict[str, Any], plain: dict[str, str], prompts: str, tmp_path: Path
) -> None:
    """Scores are told as they are; the price of a missing end counts in the choice."""
    best_of_n.run(
        BestOfNSettings(
            model=plain["sft"], reward_model=plain["reward"], prompts=prompts, output=str(tmp_path / "run"), n=6,
            missing_eos=price, hygiene=HygieneSettings(max_prompt_tokens=20),
            sampling=SamplingSettings(max_new_tokens=30),
        )
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    ends = [a == b for row in rows for a, b in zip(row["scores"], row["paid_scores"], strict=True)]
    assert all(ends) if price["mode"] == "none" else 0 < sum(ends) < len(ends)
    for row in rows:
        paid = {"none": row["score"], "subtract": row["score"] - 0.5, "replace": -9.0}[price["mode"]]
        assert max(row["paid_scores"]) == pytest.approx(row["score"] if row["finished"] else paid, abs=1e-5)
    if price["mode"] == "replace":  # nobody is chosen who does not end where somebody does
        assert all(row["finished"] or set(row["paid_scores"]) == {-9.0} for row in rows)
        return  # which of several that do not end is chosen is chance
    curve = [at["score"]["estimate"] for at in report(tmp_path / "run")["curve"]]
    assert curve[-1] == pytest.approx(sum(row["score"] for row in rows) / len(rows), abs=1e-5)
    if price["mode"] == "none":
        assert curve == sorted(curve)


def test_a_judge_that_agrees_has_the_same_curve(plain: dict[str, str], prompts: str, tmp_path: Path) -> None:
    models = {"model": plain["sft"], "reward_model": plain["reward"], "judge": plain["reward"]}
    short = {"n": 3, "hygiene": {"max_prompt_tokens": 20}, "sampling": {"max_new_tokens": 4}}
    best_of_n.run(BestOfNSettings(**models, **short, prompts=prompts, output=str(tmp_path / "run")))
    for at in report(tmp_path / "run")["curve"]:
        assert at["judge"] == at["score"]


def test_winners_serve_as_demonstrations(best: Path) -> None:
    rows = read_jsonl(best / "samples.jsonl", Demonstration)
    assert len(rows) == 12
    assert rows[0].prompt[0].content == "ask a"
