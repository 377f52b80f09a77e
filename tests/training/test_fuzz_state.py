"""Whatever lies in a run's directory, a state is the one that was saved, or a person is told what to mend.

A hundred examples here, always the same ones; `make fuzz` draws new ones (`HEED_FUZZ` for each test).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heed import config
from heed.errors import CheckpointError, ConfigError
from heed.settings.ppo import PPOSettings
from heed.settings.sft import SFTSettings
from heed.training.run_dir import RunDir
from heed.training.state import Memory, Weights, find_state

fuzz = settings(
    max_examples=int(os.environ.get("HEED_FUZZ", "100")),
    derandomize="HEED_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(7200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = ("manifest.json", "weights.json", "weights.safetensors", "memory.json")


def parts(number: float) -> dict[str, Any]:
    memory = Memory(step=number, pairs={1: (2, "three")}, moments=torch.full((3,), number))
    return {"weights": Weights({"w": torch.full((4, 2), number), "b": torch.zeros(2)}), "memory": memory}


def stopped_run(place: Path, number: float = 0.0) -> Path:
    """A run with states after steps 1 and 2, whose values tell them apart."""
    with RunDir.create(SFTSettings(model="gpt2", output=str(place))) as run:
        for step in (1, 2):
            run.record(step, {"loss": 1.0 / step})
            run.save_state(step, parts(number + step))
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("runs")
    return stopped_run(place / "one"), stopped_run(place / "other", 100.0)


def cut(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    file.write_bytes(file.read_bytes()[: draw(st.integers(0, max(0, file.stat().st_size - 1)))])


def altered(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    content = bytearray(file.read_bytes())
    content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    file.write_bytes(bytes(content))


def replaced(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    file.write_bytes(draw(st.binary(max_size=60)))


def swapped(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    source = other / "state" / draw(st.sampled_from(["step-00000001", "step-00000002"])) / file.name
    shutil.copy(source, file)


def retold(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    """A manifest, or a part, that is JSON and says something else."""
    if file.suffix == ".json":
        told = json.loads(file.read_text())
        told[draw(st.sampled_from(sorted(told)))] = draw(JSON)
        file.write_text(json.dumps(told))
    else:
        cut(file, other, draw)


def directory(file: Path, other: Path, draw: Callable[..., Any]) -> None:
    file.unlink()
    if draw(st.booleans()):
        file.mkdir()


DAMAGES = (cut, altered, replaced, swapped, retold, directory)


def gone_on_from(run: Path) -> float:
    """The number that a run goes on with: 2 after the last state."""
    with RunDir.create(SFTSettings(model="gpt2", output=str(run), resume=True)) as going_on:
        assert going_on.saved is not None
        found = parts(0.0)
        going_on.saved.load(found)
        assert torch.equal(found["weights"].parameters["w"], torch.full((4, 2), found["memory"]["step"]))
        assert [json.loads(row)["step"] for row in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
        return float(found["memory"]["step"])


@fuzz
@given(data=st.data())
def test_a_damaged_state_is_never_gone_on_from(
    data: st.DataObject, runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(runs[0], run)
    file = run / "state" / "step-00000002" / data.draw(st.sampled_from(FILES))
    before = file.read_bytes()
    data.draw(st.sampled_from(DAMAGES))(file, runs[1], data.draw)
    if file.is_file() and file.read_bytes() == before:
        assert gone_on_from(run) == 2.0
    else:
        try:  # a manifest whose spaces alone are others says the same
            assert gone_on_from(run) == 2.0 and file.name == "manifest.json"
            assert json.loads(file.read_bytes()) == json.loads(before)
        except CheckpointError as error:
            assert "step-00000001" in error.hint and "step-00000002" in error.where
            shutil.rmtree(run / "state" / "step-00000002")
            with RunDir.create(SFTSettings(model="gpt2", output=str(run), resume=True)) as going_on:
                assert going_on.step == 1
    shutil.rmtree(run.parent)


@pytest.mark.parametrize("how", ["another run's", "renamed", "rows gone", "rows shorter"])
def test_a_whole_state_in_the_wrong_place_is_refused(how: str, runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    last = run / "state" / "step-00000002"
    if how == "another run's":
        shutil.rmtree(last)
        shutil.copytree(runs[1] / "state" / last.name, last)
    elif how == "renamed":
        last.rename(run / "state" / "step-00000009")
    elif how == "rows gone":
        (run / "metrics.jsonl").unlink()
    else:
        (run / "metrics.jsonl").write_text("{}\n")
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(CheckpointError):
        gone_on_from(run)
    assert sorted(path.name for path in run.iterdir()) == before


def test_rows_after_the_state_are_cut(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert gone_on_from(tmp_path / "run") == 2.0


def test_a_state_of_other_shapes_is_told(runs: tuple[Path, Path]) -> None:
    saved = find_state(runs[0] / "state")
    assert saved is not None
    with pytest.raises(CheckpointError, match="weights does not fit this run"):
        saved.load({**parts(0.0), "weights": Weights({"w": torch.zeros(5, 2), "b": torch.zeros(2)})})


NAMES = [name for name, _ in config.fields(PPOSettings)]
TEXTS = st.text(max_size=12) | st.sampled_from(["${x}", "$${x}", "a: b", "- 1", "!!python/object:os.system", "&a *a"])


@fuzz
@example(written="ppo: text\n", flags=["--lora.rank", "4"])
@example(written="? ''\n: ''\n", flags=["--lora.rank"])
@given(
    written=st.dictionaries(st.sampled_from(NAMES) | TEXTS, JSON | TEXTS, max_size=4).map(yaml.safe_dump)
    | st.text(max_size=60).map(lambda text: text.replace("\r", "\n"))
    | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")),
    flags=st.lists(
        st.sampled_from(["--steps", "--model", "--lora.rank", "--x", "--set.a", "7", "[", "{", ""]), max_size=4
    ),
)
def test_a_recipe_gives_settings_or_a_hint(
    written: str, flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = tmp_path_factory.mktemp("recipe") / "r.yaml"
    recipe.write_text(written, encoding="utf-8", errors="surrogatepass")
    try:
        found = config.load(PPOSettings, [str(recipe), *flags], "ppo")
    except ConfigError as error:
        assert error.hint and "\n" not in error.what
        return
    again = tmp_path_factory.mktemp("again") / "r.yaml"
    again.write_text(config.dump(found), encoding="utf-8")
    assert config.load(PPOSettings, [str(again)]) == found
