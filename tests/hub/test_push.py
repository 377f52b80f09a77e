"""`heed push` against the stand-in: what arrives opens as what was sent, and the token stays where it was."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest
import standin
import uploads
from huggingface_hub import ModelCard


@pytest.fixture(scope="module")
def place(tiny_directory: Path, tiny_runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sft`: a run on a base that lies on this machine."""
    place = tmp_path_factory.mktemp("push")
    (place / "sft").symlink_to(tiny_runs[0])
    (place / "reward").symlink_to(tiny_runs[1])
    return place


def test_an_exported_model_is_pushed_and_opens_by_its_name(
    run: commands.Run, hub: standin.Hub, place: Path, tmp_path: Path
) -> None:
    wanted = "export sft --merge --output merged", "push merged --to me/mine", "push merged --to me/mine"
    told = run(place, tmp_path / "home", *wanted, token=uploads.TOKEN)
    assert [one.code for one in told] == [0, 0, 0], [one.told for one in told]
    assert f"wrote  {hub.address}/me/mine" in told[1].told
    arrived = hub.root / "models" / "me" / "mine"
    sent = {file.name: file.read_bytes() for file in (place / "merged").iterdir()}
    assert {file.name: file.read_bytes() for file in arrived.iterdir()} == sent
    assert ModelCard.load(arrived / "README.md").data.library_name == "transformers"
    everything = "".join(one.told for one in told) + "".join(hub.asked)
    kept = [file for folder in (place, tmp_path) for file in folder.rglob("*") if file.is_file()]
    assert uploads.TOKEN not in everything
    assert not [file for file in kept if uploads.TOKEN.encode() in file.read_bytes()]


def test_what_hinders_is_told_in_two_lines(run: commands.Run, place: Path, tmp_path: Path) -> None:
    mine = "push merged --to me/mine"
    (place / "merged").exists() or run(place, tmp_path, "export sft --output merged")
    (offline,) = run(place, tmp_path, mine, offline=True, token=uploads.TOKEN)
    (nobody,) = run(place, tmp_path, mine)
    asked = mine, f"push merged --to {uploads.OTHERS}/it", "push merged --to a/b/c", "push sft --to me/sft"
    wrong, others, odd, local = run(place, tmp_path, *asked, token=uploads.TOKEN)
    (refused,) = run(place, tmp_path, mine, token="hf_wrong")
    assert wrong.code == 0
    for found, what in (
        (offline, "HF_HUB_OFFLINE is set"), (nobody, "nobody is logged in"), (others, "the hub refuses"),
        (odd, "not a name of a repository"), (local, "a directory of this machine"), (refused, "the hub refuses"),
    ):  # fmt: skip
        assert found.code == 2 and what in found.told, found.told
        assert len(found.told.splitlines()) == 2 and "\nhint: " in found.told
        assert "hf_" not in found.told.replace("HF_", "")


def test_a_hub_that_does_not_answer_is_told_in_two_lines(place: Path, tmp_path: Path) -> None:
    (place / "merged").exists() or commands.run(commands.NOWHERE, place, tmp_path, "export sft --output merged")
    (found,) = commands.run(commands.NOWHERE, place, tmp_path, "push merged --to me/mine", token=uploads.TOKEN)
    assert found.code == 2 and "the hub cannot be reached" in found.told
    assert len(found.told.splitlines()) == 2 and uploads.TOKEN not in found.told


def test_an_adapter_of_a_hub_model_goes_as_it_is(run: commands.Run, hub: standin.Hub, tmp_path: Path) -> None:
    told = run(tmp_path, tmp_path / "home", "push someone/gpt2-sft --to me/again", token=uploads.TOKEN)
    assert told[0].code == 0, told[0].told
    arrived = hub.root / "models" / "me" / "again"
    names = {file.name for file in arrived.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "heed.json"} <= names
