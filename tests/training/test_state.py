from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heed.errors import CheckpointError
from heed.training.optimizer import MuonWithAdamW
from heed.training.randomness import Randomness, seed_everything
from heed.training.state import Memory, Same, Weights, _digest, find_state, read_manifest, save_state

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(tree=TREES)
def test_whatever_a_part_says_comes_back_as_it_was(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    place, found = tmp_path_factory.mktemp("state"), Memory(tree=None)
    save_state(place, 1, {"memory": Memory(tree=tree)}, {})
    saved = find_state(place)
    assert saved is not None
    saved.load({"memory": found})
    assert found["tree"] == tree and type(found["tree"]) is type(tree)


def test_tensors_come_back_to_the_bit(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    tensors = {
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]), "slice": whole[:, 1], "again": whole,
        "bytes": torch.tensor([1, 255], dtype=torch.uint8), "none": torch.zeros(0, 3),
        "half": torch.tensor([0.1], dtype=torch.bfloat16),
    }  # fmt: skip
    found = Memory(tensors=None)
    save_state(tmp_path, 1, {"memory": Memory(tensors=tensors)}, {})
    saved = find_state(tmp_path)
    assert saved is not None
    saved.load({"memory": found})
    for name, tensor in tensors.items():
        back: Tensor = found["tensors"][name]
        assert back.dtype == tensor.dtype and back.shape == tensor.shape
        assert (
            torch.equal(back.view(torch.uint8), tensor.clone(memory_format=torch.contiguous_format).view(torch.uint8))
            if tensor.ndim
            else back == tensor
        )


def test_generators_go_on_where_they_stood(tmp_path: Path) -> None:
    generator = seed_everything(7)
    randomness = Randomness(generator)
    draws = [random.random(), np.random.rand(), torch.rand(1), torch.rand(1, generator=generator)]
    save_state(tmp_path, 1, {"random": randomness}, {})

    def draw() -> list[float]:
        return [
            random.gauss(),
            float(np.random.randn()),
            float(torch.rand(1)),
            float(torch.rand(1, generator=generator)),
        ]

    expected = draw()
    assert len(draws) == 4 and draw() != expected
    saved = find_state(tmp_path)
    assert saved is not None
    saved.load({"random": randomness})
    assert draw() == expected


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "manifest", "another layout"])
def test_a_damaged_state_is_told_and_the_last_whole_one_named(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_state(tmp_path, step, {"weights": Weights({"w": torch.full((4,), float(step))})}, {})
    last = tmp_path / "step-00000002"
    file = last / "weights.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "altered":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
    elif damage == "missing":
        file.unlink()
    elif damage == "manifest":
        (last / "manifest.json").write_text("{")
    else:
        manifest = json.loads((last / "manifest.json").read_text())
        (last / "manifest.json").write_text(json.dumps({**manifest, "layout": 99}))
    with pytest.raises(CheckpointError, match=r"step-00000002.*\nhint: remove .*step-00000002, then step-00000001"):
        find_state(tmp_path)


def test_a_state_of_other_parts_is_refused(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, {"policy": Memory(x=1), "random": Memory(x=1)}, {})
    with pytest.raises(CheckpointError, match="holds the state of policy, random, not of policy, value"):
        read_manifest(path).load({"policy": Memory(x=0), "value": Memory(x=0)})


def test_data_or_weights_that_changed_meanwhile_are_told(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {"inputs": Same(trunk="a1", data={"rows": 7})}, {})
    saved = find_state(tmp_path)
    assert saved is not None
    saved.load({"inputs": Same(trunk="a1", data={"rows": 7})})
    with pytest.raises(CheckpointError, match="data: is not what the run began with"):
        saved.load({"inputs": Same(trunk="a1", data={"rows": 8})})


def test_nothing_that_is_interrupted_counts(tmp_path: Path) -> None:
    class Stops:
        def state_dict(self) -> dict[str, Any]:
            raise KeyboardInterrupt

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    save_state(tmp_path, 1, {"a": Memory(x=1)}, {})
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 2, {"a": Memory(x=2), "b": Stops()}, {})
    saved = find_state(tmp_path)
    assert saved is not None and saved.step == 1


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    path = save_state(tmp_path / "state", 1, {"a": Memory(x=1)}, {})
    (tmp_path / "outside").write_text("x")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../outside"] = {"sha256": "", "bytes": 1}
    manifest["sha256"] = _digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="damaged or missing"):
        read_manifest(path)


@pytest.mark.parametrize("threads", [1, 3])
def test_muon_goes_on_with_another_number_of_threads(threads: int) -> None:
    from heed.settings.common import OptimizerSettings

    def block() -> dict[str, torch.nn.Parameter]:
        torch.manual_seed(0)
        shapes = {"h.0.a": (3, 4), "h.0.b": (4, 2), "h.1.a": (3, 4), "wte": (5, 3), "h.0.bias": (4,)}
        return {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}

    def moved(optimizer: MuonWithAdamW, parameters: dict[str, torch.nn.Parameter], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    whole = block()
    first = MuonWithAdamW(whole, OptimizerSettings(), 2)
    moved(first, whole, 1)
    gone_on = {name: torch.nn.Parameter(value.detach().clone()) for name, value in whole.items()}
    second = MuonWithAdamW(gone_on, OptimizerSettings(), threads)
    second.load_state_dict(first.state_dict())
    moved(first, whole, 2)
    moved(second, gone_on, 2)
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)
