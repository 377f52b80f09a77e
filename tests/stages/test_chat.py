from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from heed.errors import CheckpointError, DataError
from heed.evaluation.speaker import Reply
from heed.models.checkpoint import write_metadata
from heed.models.policy import save_policy
from heed.models.roles import Shelf
from heed.records import Dialogue
from heed.settings.evaluate import ChatSettings
from heed.stages import chat

Talk = Callable[[str], str]


@dataclass
class Parrot:
    """Says back how many turns it has heard, and remembers them."""

    name: str
    policy: Any
    heard: list[Dialogue] = field(default_factory=list)

    def replies(
        self, asked: list[Dialogue], max_new_tokens: int, temperature: float, generator: torch.Generator
    ) -> list[Reply]:
        (dialogue,) = asked
        if dialogue[-1].content == "too much":
            raise DataError("this message", "does not fit", "say it shorter")
        self.heard.append(dialogue)
        return [Reply(f"{self.name} heard {len(dialogue)}", True)]


@pytest.fixture
def parrots(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Parrot]:
    policy = Shelf(lambda parameters: torch.float32, torch.device("cpu")).policy(str(tiny_directory), "policy")
    two = [Parrot("left", policy), Parrot("right", policy)]
    monkeypatch.setattr(chat, "load", lambda settings: two[: len(settings.models)])
    return two


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Pipe lines into a chat; what it prints, line by line."""

    def piped(said: str, *models: str, **options: Any) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        chat.run(ChatSettings(models=models, **options))
        return capsys.readouterr().out.splitlines()

    return piped


def contents(dialogue: Dialogue) -> list[str]:
    return [turn.content for turn in dialogue]


# ── the dialogue ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_answer_and_the_first_goes_on(parrots: list[Parrot], talk: Callable[..., list[str]]) -> None:
    printed = talk("hello\nand you?\n", "a", "b")
    assert "the dialogue goes on with the answer of left" in printed[1]
    assert printed[2:] == ["left> left heard 1", "right> right heard 1", "left> left heard 3", "right> right heard 3"]
    for parrot in parrots:
        assert contents(parrot.heard[1]) == ["hello", "left heard 1", "and you?"]
    assert [turn.role for turn in parrots[1].heard[1]] == ["user", "assistant", "user"]


def test_reset_quit_and_blank_lines(parrots: list[Parrot], talk: Callable[..., list[str]]) -> None:
    printed = talk("one\n\n  \n/reset\n two \n/quit\nthree\n", "a")
    assert [contents(dialogue) for dialogue in parrots[0].heard] == [["one"], ["two"]]
    assert printed[1:] == ["left> left heard 1", "(a new dialogue)", "left> left heard 1"]


def test_a_message_that_does_not_fit_is_told_and_forgotten(
    parrots: list[Parrot], talk: Callable[..., list[str]]
) -> None:
    printed = talk("one\ntoo much\ntwo\n", "a")
    assert "this message: does not fit" in printed
    assert contents(parrots[0].heard[-1]) == ["one", "left heard 1", "two"]


def test_ctrl_c_leaves_quietly(parrots: list[Parrot], talk: Callable[..., list[str]]) -> None:
    def interrupted(*options: object) -> list[Reply]:
        raise KeyboardInterrupt

    parrots[0].replies = interrupted  # type: ignore[method-assign]
    assert len(talk("one\ntwo\n", "a")) == 1


# ── with models ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def loud(tiny_directory: Path, tmp_path: Path) -> Path:
    """A checkpoint of its own template that always writes `!` until the limit."""
    policy = Shelf(lambda parameters: torch.float32, torch.device("cpu")).policy(str(tiny_directory), "policy")
    bang = policy.trunk.tokenizer("!")["input_ids"][0]
    policy.trunk.model.transformer.ln_f.weight.data.zero_()
    policy.trunk.model.transformer.ln_f.bias.data = 99 * policy.trunk.model.lm_head.weight.data[bang]
    save_policy(policy, tmp_path / "loud" / "checkpoint")
    write_metadata(tmp_path / "loud" / "checkpoint", {"kind": "policy", "template": {"name": "plain", "hash": ""}})
    return tmp_path / "loud"


def test_piped_chat_with_two_checkpoints(loud: Path, tiny_directory: Path, talk: Callable[..., list[str]]) -> None:
    printed = talk("hi\n", str(loud), str(tiny_directory), max_new_tokens=3, temperature=0)
    assert printed[2] == "loud> !!! …"
    assert printed[3].startswith(f"{tiny_directory.name}> ")
    assert printed[2:] == talk("hi\n", str(loud), str(tiny_directory), max_new_tokens=3, temperature=0)[2:]


def test_each_checkpoint_has_its_own_template(loud: Path, tiny_directory: Path) -> None:
    speakers = chat.load(ChatSettings(models=(str(loud), str(tiny_directory)), template="alpaca"))
    assert [speaker.template.name for speaker in speakers] == ["plain", "alpaca"]


def test_two_checkpoints_of_one_name_are_told_apart() -> None:
    assert [chat.name_of(i, ["a/ppo", "b/ppo"]) for i in (1, 2)] == ["1: ppo", "2: ppo"]
    assert [chat.name_of(i, ["a/sft", "b/ppo"]) for i in (1, 2)] == ["sft", "ppo"]


def test_a_missing_checkpoint_is_told_before_the_other_is_loaded(
    tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "Shelf", None)
    with pytest.raises(CheckpointError, match="nowhere"):
        chat.run(ChatSettings(models=(str(tiny_directory), "./nowhere")))
