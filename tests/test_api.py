"""heed in a script: settings, checks and errors of the command line, in Python's words."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heed
from heed import api, cli
from heed.errors import CheckpointError, ConfigError, DataError
from heed.settings.ppo import PPOSettings
from heed.settings.sft import SFTSettings

Stage = Callable[[str, Callable[[Any], object]], None]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Put a `run` of the test's own in place of a stage's."""

    def replace(name: str, run: Callable[[Any], object]) -> None:
        module = types.ModuleType(f"heed.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"heed.{name}", module)

    return replace


@pytest.fixture
def seen(stage: Stage) -> list[Any]:
    """The settings that SFT is run with."""
    settings: list[Any] = []
    stage("stages.sft", lambda checked: settings.append(checked) or Path("runs/sft"))
    return settings


def test_values_are_settings(seen: list[Any]) -> None:
    given = {"model": Path("base"), "data": {"path": __file__, "limit": 5}, "lora": {"rank": 8}, "epochs": 2}
    assert heed.sft(output="runs/sft", **given) == Path("runs/sft")
    (checked,) = seen
    assert checked.model == "base"
    assert checked.data.path == __file__
    assert checked.data.limit == 5
    assert checked.lora.rank == 8
    assert checked.lora.alpha == SFTSettings(model="m", output="o").lora.alpha  # the rest of a group is the stage's own
    assert checked.epochs == 2


def test_paths_are_texts_wherever_they_stand(stage: Stage) -> None:
    settings: list[Any] = []
    stage("stages.evaluate", settings.append)
    heed.evaluate(models={"a": Path("x"), "b": "y"}, text=[Path("t.txt")], output=Path("o"))
    (checked,) = settings
    assert (checked.models, checked.text, checked.output) == ({"a": "x", "b": "y"}, ("t.txt",), "o")


def test_a_recipe_goes_first_and_values_are_laid_over_it(seen: list[Any], tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(
        "set: {base: null}\nsft:\n  model: ${base}\n  output: o\n  epochs: 3\n"
        "  lora: {rank: 4, alpha: 7}\nppo: {steps: 1}\n"
    )
    heed.sft(recipe, set={"base": "gpt2"}, lora={"rank": 9})
    (checked,) = seen
    assert (checked.model, checked.epochs, checked.lora.rank, checked.lora.alpha) == ("gpt2", 3, 9, 7)


MISTAKES = {
    "a mistyped name": ({"modle": "m", "output": "o"}, "modle: unknown setting", "did you mean model?"),
    "in a group": ({"model": "m", "output": "o", "lora": {"rnk": 8}}, "lora.rnk: unknown setting", "lora.rank?"),
    "a value": ({"model": "m", "output": "o", "lora": {"rank": -1}}, "lora.rank: -1 should be", "low-rank|rank of"),
    "a missing one": ({"output": "o"}, "model: is required", "model=VALUE"),
    "a switch": ({"model": "m", "output": "o", "epochs": True}, "epochs: True", "switch|passes"),
    "no group": ({"model": "m", "output": "o", "lora": 8}, "lora: 8", "lora"),
    "no file": ({"model": "m", "output": "o", "data": "nowhere.jsonl"}, "nowhere.jsonl", "hint"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "told", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_in_pythons_words(seen: list[Any], values: dict[str, Any], told: str, hint: str) -> None:
    with pytest.raises((ConfigError, DataError), match=hint) as caught:
        heed.sft(**values)
    assert str(caught.value).startswith(told)
    assert "--" not in str(caught.value)
    assert seen == []


def test_a_recipes_mistake_names_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text("model: m\noutput: o\nepochs: many\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: epochs: 'many'"):
        heed.sft(recipe)
    with pytest.raises(ConfigError, match="no such recipe file"):
        heed.sft(tmp_path / "other.yaml")


def test_errors_of_a_stage_are_translated_too() -> None:
    with pytest.raises(
        ConfigError, match=r"^prompts: no prompts are named\nhint: give a file of prompts: prompts=FILE$"
    ):
        heed.sample(model="m", output="o")


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        ("add --overwrite to replace it", "add overwrite=True to replace it"),
        ("give a file: --data FILE", "give a file: data=FILE"),
        ("--lora.rank: -1", "lora.rank: -1"),
        ("as --lora.rank VALUE", 'as lora={"rank": VALUE}'),
        ("set --reward-model NAME", "set reward_model=NAME"),
        ("need both --model and --reference", "need both model and reference"),
        ("a -- b, well-known, rank --", "a -- b, well-known, rank --"),
    ],
)
def test_flags_in_python(shell: str, python: str) -> None:
    assert api.in_python(shell, PPOSettings) == python


def test_every_stage_is_a_function(stage: Stage) -> None:
    listed = {name.replace("-", "_") for name, command in cli.COMMANDS.items() if command.stage.startswith("stages.")}
    assert listed - {"chat", "doctor"} <= set(heed.__all__)
    for name in listed - {"chat", "doctor"}:
        stage(f"stages.{name}", lambda checked: Path(type(checked).__name__))
    assert heed.reward(model="m", output="o") == Path("RewardSettings")
    assert heed.evaluate_reward(model="m", output="o") == Path("EvaluateRewardSettings")
    assert heed.best_of_n(model="m", reward_model="r", output="o") == Path("BestOfNSettings")
    assert heed.evaluate(models={"a": "x", "b": "y"}, output="o") == Path("EvaluateSettings")


def test_resume_takes_the_runs_own_recipe(seen: list[Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"stage": "sft"}')
    (tmp_path / "config.yaml").write_text("model: m\noutput: elsewhere\nepochs: 3\n")
    heed.resume(tmp_path, save_every=7)
    (checked,) = seen
    assert (checked.resume, checked.output, checked.epochs, checked.save_every) == (True, str(tmp_path), 3, 7)
    with pytest.raises(ConfigError, match="is not the directory of a run"):
        heed.resume(tmp_path / "nothing")


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
import logging, sys, types
module = types.ModuleType("heed.stages.sft")
module.run = lambda settings: logging.getLogger("heed").info("read 7 rows")
sys.modules["heed.stages.sft"] = module
import heed
{before}
heed.sft(model="m", output="o")
print(logging.getLogger("heed").handlers, logging.getLogger("heed").level)
"""


@pytest.mark.parametrize(
    ("before", "heard"),
    [
        ("", "read 7 rows\n"),
        ("logging.basicConfig(level='INFO', format='mine: %(message)s')", "mine: read 7 rows\n"),
        ("logging.basicConfig(level='WARNING')", ""),
        ("logging.getLogger('heed').setLevel('ERROR')", ""),
    ],
)
def test_progress_is_heard_unless_the_application_says_otherwise(before: str, heard: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)], capture_output=True, text=True, check=True
    )
    assert done.stderr == heard
    if not before:
        assert done.stdout == f"[] {logging.NOTSET}\n"  # nothing is left behind


def test_libraries_are_quiet_before_they_are_imported() -> None:
    code = (
        "import os, heed\nfrom heed.errors import ConfigError\n"
        "try: heed.sample(model='m', output='o')\nexcept ConfigError: print(os.environ['TRANSFORMERS_VERBOSITY'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "error\n"


# ── what stages leave ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_policy_answers(tiny_runs: tuple[str, str]) -> None:
    policy = heed.load_policy(tiny_runs[0], device="cpu")
    assert policy.name == "sft"
    assert policy.template.name == "plain"
    assert len(policy.answer(["a", "b"], max_new_tokens=4, seed=1)) == 2
    with pytest.raises(CheckpointError, match="is a reward model"):
        heed.load_policy(tiny_runs[1])


def test_a_reward_model_scores_as_a_judge_does(tiny_runs: tuple[str, str]) -> None:
    from heed.records import Turn

    judge = heed.load_reward(tiny_runs[1])
    texts = ["ab", "!!"]
    found = judge.score(["x", "y"], texts)
    dialogues = [(Turn("user", "x"),), (Turn("user", "y"),)]
    assert found == judge.scores_of_texts(dialogues, texts, [True, True], 1).tolist()
    assert found[0] != found[1]
    assert judge.score("y", "!!") == pytest.approx([found[1]])
    with pytest.raises(DataError, match="2 prompts, but 1 responses"):
        judge.score(["x", "y"], ["ab"])
    with pytest.raises(DataError, match="response 2"):
        judge.score(["x", "y"], ["ab", None])  # type: ignore[list-item]
    assert judge.score([], []) == []
