"""`heed doctor` on files that a library with a fault would have written: each fault is named, a healthy file is not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed import cli
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.trunk import Trunk
from heed.settings.doctor import DoctorSettings
from heed.stages import doctor

EOS, PAD = 0, 1
LONGEST = 12
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class World:
    """Policy and reference on disk and in memory, and the rows of a healthy library."""

    policy: str
    reference: str
    model: Any
    ref_model: Any
    rows: Rows


@pytest.fixture(scope="module")
def world(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("doctor")
    reference = AutoModelForCausalLM.from_pretrained(tiny_directory).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        reference.transformer.wte.weight.mul_(0.6)  # milder logits
        hidden = reference.transformer(torch.randint(2, 258, (32, 12), generator=generator)).last_hidden_state
        usual, normaliser = hidden.mean((0, 1)), reference.lm_head(hidden).logsumexp(-1).mean()
        reference.transformer.wte.weight[EOS] = (normaliser - 2.5) * usual / usual.square().sum()  # ends now and then
        policy = copy.deepcopy(reference)
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    for name, model in (("policy", policy), ("reference", reference)):
        model.save_pretrained(place / name)
        AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(place / name)
    rows = sampled(policy, reference, generator)
    return World(str(place / "policy"), str(place / "reference"), policy, reference, rows)


@pytest.fixture(autouse=True)
def _load_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "policy", lambda shelf, name, role: policy_of(name))


@cache
def policy_of(name: str) -> Policy:
    return Policy(Trunk.load(open_checkpoint(name), torch.float32, torch.device("cpu")))


@torch.no_grad()
def score(model: Any, tokens: Tensor, start: int) -> Tensor:
    """The right log-probabilities, written without heed's own scoring."""
    lines = model(tokens).logits[:, start - 1 : -1].log_softmax(-1)
    return lines.gather(2, tokens[:, start:, None])[:, :, 0]


@torch.no_grad()
def sampled(
    policy: Any,
    reference: Any,
    generator: torch.Generator,
    process: Callable[[Tensor], Tensor] = lambda logits: logits,
    scored: Any = None,
) -> Rows:
    """Rows of a library that draws from `process(logits of policy)`, and scores `scored` (as a rule the policy)."""
    rows: Rows = []
    for length in (8, 1, 3, 6):
        tokens = torch.randint(2, 258, (24, length), generator=generator)
        drawn = []
        for _ in range(LONGEST):
            logprobs = process(policy(tokens).logits[:, -1]).log_softmax(-1)
            token = torch.multinomial(logprobs.exp(), 1, generator=generator)
            drawn.append(logprobs.gather(1, token))
            tokens = torch.cat([tokens, token], 1)
        lines = {"sampler": torch.cat(drawn, 1), "policy": score(scored or policy, tokens, length),
                 "ref": score(reference, tokens, length)}  # fmt: skip
        for i, row in enumerate(tokens.tolist()):
            response = row[length:]
            end = response.index(EOS) + 1 if EOS in response else LONGEST
            rows.append({
                "prompt_ids": row[:length], "response_ids": response[:end], "mask": [1] * end, "eos_id": EOS,
                "pad_id": PAD, **{f"{name}_logprobs": line[i, :end].tolist() for name, line in lines.items()},
            })  # fmt: skip
    return rows


def diagnosed(world: World, rows: Rows, tmp_path: Path, models: bool = True, **settings: Any) -> tuple[int, list[str]]:
    """Exit code and ids of what is found."""
    file, out = tmp_path / "rollouts.jsonl", tmp_path / "findings.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if models:
        settings |= {"model": world.policy, "reference": world.reference}
    code = doctor.run(DoctorSettings(rollouts=str(file), json=str(out), dtype="float32", device="cpu", **settings))
    return code, [found["id"] for found in json.loads(out.read_text())["findings"]]


def changed(rows: Rows, **columns: Callable[[dict[str, Any]], Any]) -> Rows:
    return [{**row, **{name: change(row) for name, change in columns.items()}} for row in rows]


def test_the_world_is_fit_for_tests(world: World) -> None:
    tokens = sum(len(row["response_ids"]) for row in world.rows)
    ended = sum(row["response_ids"][-1] == EOS for row in world.rows)
    assert tokens > 500
    assert 5 < ended < 90
    for row in world.rows[:3]:
        assert row["sampler_logprobs"] == pytest.approx(row["policy_logprobs"], abs=1e-4)


def test_a_healthy_file_has_no_findings(world: World, tmp_path: Path) -> None:
    assert diagnosed(world, world.rows, tmp_path) == (0, [])
    tests = json.loads((tmp_path / "findings.json").read_text())["tests"]
    assert {name for name, outcome in tests.items() if outcome == "passed"} >= {
        "T2",
        "T6",
        "T7",
        "T8",
        "T9",
        "T12",
        "T14",
    }
    assert tests["T3"] == "not tested: no `policy_logprobs_again` in the file"
    assert tests["T13"] == "not tested: no weights are in a file"


def test_a_healthy_file_has_no_findings_without_models(world: World, tmp_path: Path) -> None:
    assert diagnosed(world, world.rows, tmp_path, models=False) == (0, [])


# --- faults of the scorer -------------------------------------------------------------------------------------------


@torch.no_grad()
def wrong(model: Any, row: dict[str, Any], how: str) -> list[float]:
    """Log-probabilities as a library with a fault in its scoring gives them."""
    prompt, response = row["prompt_ids"], row["response_ids"]
    pads = 8 - len(prompt)
    tokens = torch.tensor([[PAD] * pads + prompt + response])
    options: dict[str, Any] = {"attention_mask": torch.tensor([[0] * pads + [1] * (len(prompt) + len(response))])}
    options["position_ids"] = (options["attention_mask"].cumsum(1) - 1).clamp(min=0)
    if how == "arange":
        options["position_ids"] = torch.arange(tokens.shape[1])[None]
    if how == "attended":
        options = {}
    if how == "dropout":
        model = copy.deepcopy(model).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
    logits = model(tokens, **options).logits[0]
    back = 0 if how == "shifted" else 1
    lines = logits[len(logits) - len(response) - back : len(logits) - back]
    lines = lines if how == "raw" else lines.log_softmax(-1)
    return [float(line[token]) for line, token in zip(lines, response, strict=True)]


SCORERS = {"arange": "NK8", "attended": "NK9", "shifted": "NK11", "raw": "NK20"}


@pytest.mark.parametrize(("how", "cause"), SCORERS.items(), ids=SCORERS)
def test_a_fault_of_the_scorer_is_named(world: World, tmp_path: Path, how: str, cause: str) -> None:
    rows = changed(
        world.rows,
        policy_logprobs=lambda row: wrong(world.model, row, how),
        ref_logprobs=lambda row: wrong(world.ref_model, row, how),
    )
    assert diagnosed(world, rows, tmp_path) == (3, [cause])


def test_dropout_in_scoring_is_named(world: World, tmp_path: Path) -> None:
    rows = changed(
        world.rows,
        policy_logprobs=lambda row: wrong(world.model, row, "dropout"),
        policy_logprobs_again=lambda row: wrong(world.model, row, "dropout"),
    )
    assert diagnosed(world, rows, tmp_path) == (3, ["NK6"])
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK6"])


def test_a_swapped_sign_is_named(world: World, tmp_path: Path) -> None:
    rows = changed(
        world.rows, policy_logprobs=lambda row: row["ref_logprobs"], ref_logprobs=lambda row: row["policy_logprobs"]
    )
    assert diagnosed(world, rows, tmp_path) == (3, ["NK12"])


def test_counted_pads_are_named(world: World, tmp_path: Path) -> None:
    def longer(name: str, fill: float) -> Callable[[dict[str, Any]], Any]:
        return lambda row: row[name] + [fill] * (LONGEST - len(row[name]))

    lines = {name: longer(name, -1.5) for name in ("sampler_logprobs", "policy_logprobs", "ref_logprobs")}
    rows = changed(world.rows, response_ids=longer("response_ids", PAD), mask=longer("mask", 1), **lines)
    assert diagnosed(world, rows, tmp_path) == (3, ["NK10"])
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK10"])


def test_pad_that_is_eos_is_named(world: World, tmp_path: Path) -> None:
    rows = changed(world.rows, mask=lambda row: [int(token != EOS) for token in row["response_ids"]])
    rows = changed(rows, pad_id=lambda row: EOS)
    assert diagnosed(world, rows, tmp_path) == (3, ["NK9"])


def test_eos_that_the_attention_mask_hides_is_named(world: World, tmp_path: Path) -> None:
    def with_eos(row: dict[str, Any]) -> dict[str, Any]:
        prompt, response = [*row["prompt_ids"][:2], EOS, 40, 41], row["response_ids"]
        tokens = torch.tensor([prompt + response])
        mask = (tokens != EOS).long()
        with torch.no_grad():
            logits = world.model(tokens, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits[0]
        lines = logits[len(prompt) - 1 : -1].log_softmax(-1)
        return {
            "prompt_ids": prompt, "response_ids": response, "eos_id": EOS, "pad_id": EOS,
            "policy_logprobs": [float(line[token]) for line, token in zip(lines, response, strict=True)],
        }  # fmt: skip

    _, found = diagnosed(world, [with_eos(row) for row in world.rows[:24]], tmp_path)
    assert "NK9" in found


def test_other_ids_and_other_prompts_are_named(world: World, tmp_path: Path) -> None:
    rows = changed(world.rows, scored_response_ids=lambda row: [*row["response_ids"][:-1], 99])
    assert diagnosed(world, rows, tmp_path) == (3, ["NK17"])
    rows = changed(world.rows, scored_prompt_ids=lambda row: [EOS, *row["prompt_ids"]])
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK18"])


# --- faults of the sampler ------------------------------------------------------------------------------------------


def best(logits: Tensor, k: int) -> Tensor:
    return logits.masked_fill(logits < logits.topk(k).values[:, -1:], -torch.inf)


def suppressed(logits: Tensor) -> Tensor:
    return logits.index_fill(1, torch.tensor([EOS]), -torch.inf)


SAMPLERS = {
    "top-k 5": (lambda logits: best(logits, 5), "NK1"),
    "temperature 0.7": (lambda logits: logits / 0.7, "NK2"),
    "no end-of-text": (suppressed, "NK4"),
    "greedy": (lambda logits: best(logits, 1), "NK5"),
}


@pytest.mark.parametrize(("process", "cause"), SAMPLERS.values(), ids=SAMPLERS)
def test_a_fault_of_the_sampler_is_named(world: World, tmp_path: Path, process: Any, cause: str) -> None:
    rows = sampled(world.model, world.ref_model, torch.Generator().manual_seed(5), process)
    assert diagnosed(world, rows, tmp_path) == (3, [cause])
    for row in rows:
        del row["sampler_logprobs"]
    assert diagnosed(world, rows, tmp_path) == (3, [cause])  # the ids alone are enough


def test_a_sampler_of_other_weights_is_named(world: World, tmp_path: Path) -> None:
    rows = sampled(world.ref_model, world.ref_model, torch.Generator().manual_seed(5), scored=world.model)
    assert diagnosed(world, rows, tmp_path) == (3, ["NK13"])
    rows = changed(world.rows, sampler_version=lambda row: 3, scorer_version=lambda row: 4)
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK13"])


def test_settings_of_the_sampler_are_read(world: World, tmp_path: Path) -> None:
    rows = changed(world.rows, sampler=lambda row: {"top_k": 0, "top_p": 1.0, "temperature": 1.0, "max_new_tokens": 12})
    assert diagnosed(world, rows, tmp_path, models=False) == (0, [])
    rows = changed(world.rows, sampler=lambda row: {"top_k": 50, "temperature": 1.0})
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK1"])
    rows = changed(world.rows, sampler=lambda row: {"temperature": 0.7})
    assert diagnosed(world, rows, tmp_path, models=False) == (3, ["NK2"])


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_returns_3_with_findings_and_prints_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rollouts.jsonl"
    rows = changed(world.rows, scored_response_ids=lambda row: [7])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["doctor", "--rollouts", str(file)]) == 3
    assert "NK17" in capsys.readouterr().out
    file.write_text("".join(json.dumps(row) + "\n" for row in world.rows))
    assert cli.main(["doctor", "--rollouts", str(file)]) == 0


MISTAKES = {
    "column": ({"prompt_ids": [1], "response_ids": [2], "logprobs": [0.0]}, "unknown column 'logprobs'"),
    "length": ({"prompt_ids": [1], "response_ids": [2, 3], "ref_logprobs": [0.0]}, "is not a list of 2 numbers"),
    "ids": ({"prompt_ids": "abc", "response_ids": [2]}, "`prompt_ids` is not a list of token ids"),
}


@pytest.mark.parametrize(("row", "what"), MISTAKES.values(), ids=MISTAKES)
def test_a_file_that_is_not_as_described_is_told_by_line(
    row: dict[str, Any], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rollouts.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert cli.main(["doctor", "--rollouts", str(file)]) == 2
    told = capsys.readouterr().err
    assert f"{file}:1" in told
    assert what in told


def test_one_model_alone_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--rollouts", "r.jsonl", "--model", "m"]) == 2
    assert "--reference" in capsys.readouterr().err
