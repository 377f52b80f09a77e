"""lm-eval on a task of our own that needs no network; where the library is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from heed.data.encode import encode_texts
from heed.errors import ConfigError
from heed.evaluation.harness import benchmarks, require_harness
from heed.formulas.statistics import Estimate
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.settings.evaluate import EvaluateSettings
from heed.stages import evaluate

TASK = """
task: two_letters
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_a_task_without_network(tiny_runs: tuple[str, str], tmp_path: Path) -> None:
    """The harness's accuracy is that of the policy's own log-probabilities, adapter and all."""
    pytest.importorskip("lm_eval")
    rows = [{"question": f"q{i}", "choices": ["ab", "xy"], "answer": i % 2} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "two_letters.yaml").write_text(TASK.replace("FILE", str(tmp_path / "rows.jsonl")))
    policy = Shelf(lambda _: torch.float32, torch.device("cpu")).policy(tiny_runs[0], "policy")
    found = benchmarks(policy, ["two_letters"], 0, 4, str(tmp_path), seed=0)

    right = 0
    for row in rows:
        scores = []
        for choice in row["choices"]:
            prompt, whole = encode_texts([row["question"], row["question"] + choice], policy.trunk.tokenizer)
            tokens = whole[None, : len(whole) - int(whole[-1] == policy.trunk.tokenizer.eos_token_id)]
            length = len(row["question"])
            assert prompt[:length].tolist() == tokens[0, :length].tolist()
            counted = torch.arange(tokens.shape[1])[None] >= length
            with policy.active(), torch.no_grad():
                scores.append(float(policy.flat_logprobs(tokens, torch.ones_like(tokens).bool(), counted).sum()))
        right += scores.index(max(scores)) == row["answer"]
    assert found["two_letters acc"].estimate == pytest.approx(right / 12)
    assert found["two_letters acc"].n == 12
    assert found["two_letters acc"].low < right / 12 < found["two_letters acc"].high
    with pytest.raises(ConfigError, match="no task nonsense"):
        benchmarks(policy, ["nonsense"], 0, 4, str(tmp_path), seed=0)


def test_the_stage_reports_it(tiny_runs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the harness: every model is asked, what it says is in the report."""
    monkeypatch.setattr(evaluate, "require_harness", lambda: None)
    asked = []

    def answered(policy: Policy, *rest: object) -> dict[str, Estimate]:
        asked.append(rest)
        return {"t acc": Estimate(0.5, 0.25, 0.75, 12)}

    monkeypatch.setattr(evaluate, "benchmarks", answered)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"q{i}"}) + "\n" for i in range(4)))
    settings = EvaluateSettings(
        models={"a": tiny_runs[0], "b": tiny_runs[0]}, prompts=str(tmp_path / "prompts.jsonl"),
        output=str(tmp_path / "run"), harness={"tasks": ("t",), "limit": 3, "include": "mine"},
        sampling={"max_new_tokens": 4, "batch": 4},
    )  # type: ignore[arg-type]  # fmt: skip
    evaluate.run(settings)
    found = json.loads((tmp_path / "run" / "report.json").read_text())["models"]
    assert [model["benchmarks"]["t acc"]["n"] for model in found.values()] == [12, 12]
    assert asked == 2 * [(("t",), 3, 4, "mine", 0)]


def test_a_missing_library_is_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as told:
        require_harness()
    assert str(told.value).splitlines()[1] == "hint: pip install 'heed[eval]', or leave it out"
