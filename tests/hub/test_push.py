"""`heed push` against the stand-in: what arrives is what was sent, and the token stays where it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import commands
import pytest
import standin
import uploads
from huggingface_hub import ModelCard

PAGE = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
EXPORT, PUSH = re.findall(r"^ {4}heed ((?:export runs/gpt2|push).*)$", PAGE, re.MULTILINE)
AS_ME = f"HF_TOKEN={uploads.TOKEN}"
ASKED = {
    "export": EXPORT,
    "push": f"{AS_ME} {PUSH}",
    "again": f"{AS_ME} {PUSH}",
    "adapter": f"{AS_ME} push someone/gpt2-sft --to me/again",
    "nobody": PUSH,
    "wrong": f"HF_TOKEN=hf_wrong {PUSH}",
    "others": f"{AS_ME} push gpt2-ppo --to {uploads.OTHERS}/it",
    "odd": f"{AS_ME} push gpt2-ppo --to a/b/c",
    "local": f"{AS_ME} push runs/gpt2/ppo --to me/ppo",
}


@dataclass(frozen=True)
class Pushed:
    """What each command said, and where."""

    place: Path
    said: dict[str, commands.Outcome]
    asked: list[str]


@pytest.fixture(scope="module")
def pushed(
    run: commands.Run, hub: standin.Hub, tiny_runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Pushed:
    """The last two commands of the quickstart, on a run whose base lies on this machine; and what goes wrong."""
    place = tmp_path_factory.mktemp("push")
    (place / "runs" / "gpt2").mkdir(parents=True)
    (place / "runs" / "gpt2" / "ppo").symlink_to(tiny_runs[0])
    outcomes = run(place, place / "home", *ASKED.values())
    return Pushed(place, dict(zip(ASKED, outcomes, strict=True)), list(hub.asked))


def test_an_exported_model_arrives_as_it_was_sent(pushed: Pushed, hub: standin.Hub) -> None:
    for name in ("export", "push", "again"):
        assert pushed.said[name].code == 0, pushed.said[name].told
    assert f"wrote  {hub.address}/owner/name" in pushed.said["push"].told
    arrived = hub.root / "models" / "owner" / "name"
    sent = {file.name: file.read_bytes() for file in (pushed.place / "gpt2-ppo").iterdir()}
    assert {file.name: file.read_bytes() for file in arrived.iterdir()} == sent
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "heed.json"} <= set(sent)
    assert ModelCard.load(arrived / "README.md").data.library_name == "transformers"


def test_an_adapter_of_a_hub_model_goes_as_it_is(pushed: Pushed, hub: standin.Hub) -> None:
    assert pushed.said["adapter"].code == 0, pushed.said["adapter"].told
    names = {file.name for file in (hub.root / "models" / "me" / "again").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "heed.json"} <= names


def test_the_token_is_nowhere(pushed: Pushed) -> None:
    assert uploads.TOKEN not in "".join(one.told for one in pushed.said.values()) + "".join(pushed.asked)
    files = [file for file in pushed.place.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if uploads.TOKEN.encode() in file.read_bytes()]


HINDERED = {
    "nobody": "nobody is logged in", "wrong": "the hub refuses", "others": "the hub refuses",
    "odd": "not a name of a repository", "local": "a directory of this machine",
}  # fmt: skip


@pytest.mark.parametrize(("name", "what"), HINDERED.items())
def test_what_hinders_is_told_in_two_lines(pushed: Pushed, name: str, what: str) -> None:
    assert_told(pushed.said[name], what)


@pytest.mark.parametrize(("offline", "what"), [(True, "HF_HUB_OFFLINE is set"), (False, "the hub cannot be reached")])
def test_without_a_hub_it_is_told_in_two_lines(pushed: Pushed, tmp_path: Path, offline: bool, what: str) -> None:
    (found,) = commands.run(commands.NOWHERE, pushed.place, tmp_path, ASKED["push"], offline=offline)
    assert_told(found, what)


def assert_told(found: commands.Outcome, what: str) -> None:
    assert found.code == 2 and what in found.told, found.told
    assert len(found.told.splitlines()) == 2 and "\nhint: " in found.told
    assert "hf_" not in found.told


def test_the_stages_of_the_quickstart_are_the_recipes_that_run_here() -> None:
    from test_recipes_by_hub_name import COMMANDS, RECIPES

    told = re.findall(r"^ {4}heed ((?:sft|reward|ppo) recipes/gpt2/.*)$", PAGE, re.MULTILINE)
    assert told == [f"{name} recipes/gpt2/{name}.yaml" for name in ("sft", "reward", "ppo")]
    assert all(COMMANDS[line.split()[0]].startswith(line.replace("recipes/gpt2", str(RECIPES))) for line in told)
