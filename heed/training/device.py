"""Device and dtype."""

from __future__ import annotations

import torch

from heed.errors import ConfigError

SMALLEST_BFLOAT16_MODEL = 5_000_000
"""Parameters below which a bfloat16 trunk gains nothing on a processor: the products are too small to matter."""


SMALLEST_ON_ACCELERATOR = 5_000_000
"""Parameters below which `device: auto` stays on the processor: an accelerator would wait for the program all the time,
and on the processor threads share the rows (`heed.rows.threads`)."""


def pick_device(name: str, parameters: int) -> torch.device:
    """The device that `device: name` means for a model of so many `parameters`; `auto` is the accelerator, if there is
    one and the model is not too small to gain from it, else the processor.

    Raises ConfigError for a name that torch does not know and for a device that this machine does not have.
    """
    if name == "auto":
        return best_device() if parameters >= SMALLEST_ON_ACCELERATOR else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("device", f"{name!r} is not a device", "use auto, cpu, cuda, cuda:1 or mps") from None
    if not _is_here(device):
        raise ConfigError("device", f"{name!r} is not available on this machine", "use auto or cpu")
    return device


def best_device() -> torch.device:
    """The accelerator if there is one, else the processor."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _is_here(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    here = torch.accelerator.current_accelerator(check_available=True)
    return here is not None and here.type == device.type and (device.index or 0) < torch.accelerator.device_count()


def pick_dtype(name: str, device: torch.device, parameters: int) -> torch.dtype:
    """The dtype of frozen weights for a model of so many `parameters`.

    `auto` is bfloat16 only where the device has the instructions and the model is large enough to gain from them:
    measured on AVX-512 with bfloat16, products of GPT-2's size run about three times as fast; LoRA on a model of 6 M
    parameters trains 1.2 to 1.6 times as fast, and rounds log-probabilities by 0.02 nats.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    gains = parameters >= SMALLEST_BFLOAT16_MODEL and has_bfloat16(device)
    return torch.bfloat16 if gains else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
