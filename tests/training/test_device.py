from __future__ import annotations

import random

import numpy
import pytest
import torch

from heed.errors import ConfigError
from heed.training import device
from heed.training.device import pick_device, pick_dtype
from heed.training.randomness import seed_everything

CPU = torch.device("cpu")
SMALL, LARGE = 4_999_999, 5_000_000


class TestPickDevice:
    def test_a_named_device(self) -> None:
        assert pick_device("cpu", LARGE) == CPU

    def test_auto_is_the_accelerator_or_the_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
        assert pick_device("auto", LARGE) == CPU
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
        assert pick_device("auto", LARGE).type == "cuda"

    def test_auto_keeps_small_models_on_the_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
        assert pick_device("auto", SMALL) == CPU
        assert pick_device("cuda", SMALL).type == "cuda"  # what is asked for is given

    @pytest.mark.parametrize("name", ["graphics", "cuda:x", ""])
    def test_a_name_that_torch_does_not_know(self, name: str) -> None:
        with pytest.raises(ConfigError, match="is not a device"):
            pick_device(name, LARGE)

    def test_a_device_that_is_not_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
        assert pick_device("cuda:0", LARGE).index == 0
        for name in ("cuda:1", "mps"):
            with pytest.raises(ConfigError, match="not available"):
                pick_device(name, LARGE)


class TestPickDtype:
    @pytest.mark.parametrize("has_instructions", [True, False])
    def test_auto_needs_instructions_and_size(self, monkeypatch: pytest.MonkeyPatch, has_instructions: bool) -> None:
        monkeypatch.setattr(device, "has_bfloat16", lambda _: has_instructions)
        assert pick_dtype("auto", CPU, SMALL) == torch.float32
        assert pick_dtype("auto", CPU, LARGE) == (torch.bfloat16 if has_instructions else torch.float32)

    def test_what_is_asked_for_is_given(self) -> None:
        assert pick_dtype("bfloat16", CPU, 1) == torch.bfloat16
        assert pick_dtype("float32", CPU, LARGE) == torch.float32

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            ({"avx512_bf16": True}, True),
            ({"amx_bf16": True}, True),
            ({"avx512_bf16": False, "avx2": True}, False),
            ({}, False),
        ],
    )
    def test_processor(self, monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], expected: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
        assert device.has_bfloat16(CPU) is expected


def test_one_seed_rules_every_source_of_chance() -> None:
    def draws() -> tuple[float, float, float, float]:
        generator = seed_everything(5)
        return random.random(), numpy.random.rand(), torch.rand(()).item(), torch.rand((), generator=generator).item()

    first = draws()
    assert draws() == first
    seed_everything(6)
    assert random.random() != first[0]
