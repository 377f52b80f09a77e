"""The adapter of a checkpoint: is it A and B of linear layers, and nothing else? Decided before anything is computed.

What an adapter's config or file says beyond that, heed would not do: sampler, scorer and stock peft would disagree.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from peft import AdaptionPromptConfig, LoraConfig, PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora import LoraLayer
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heed.errors import CheckpointError, ConfigError
from heed.models.checkpoint import ADAPTER, ADAPTER_WEIGHTS, Checkpoint
from heed.models.files import read_json, shapes_of
from heed.settings.common import AdapterSettings

Lora = TypeVar("Lora", bound=AdapterSettings)
PREFIX = "base_model.model."  # what peft's own files put before every name
HEADS = ("score", "classifier")
MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<name>[AB])\.weight")
UNDERSTOOD = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "use_rslora",
    "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern",
}  # fmt: skip
"""Settings that are followed, by peft's own code."""
SAYS_NOTHING = {
    "auto_mapping", "base_model_name_or_path", "peft_type", "peft_version", "task_type", "inference_mode", "revision",
    "init_lora_weights", "loftq_config", "eva_config", "modules_to_save", "runtime_config", "megatron_core",
}  # fmt: skip
"""Settings that change no output of a trained adapter, or are looked at one by one."""
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base's weights as they are; PiSSA, OLoRA, CorDA and LoftQ move a part of them."""
HINT = "merge it into its base (peft's merge_and_unload) and give the merged model"


def adapter_config(checkpoint: Checkpoint, head: bool) -> LoraConfig:
    """The config of an adapter, with which peft's code does what stock peft does; `head`: a scalar head may travel
    with it. Raises `CheckpointError` where heed would not reproduce it."""
    found = read_json(Path(checkpoint.path) / ADAPTER)
    if why := _beyond(found, head):
        hint = HINT if _can_be_merged(found) else "give its base model, or a LoRA adapter of that"
        raise CheckpointError(checkpoint.name, f"its adapter {why}, which is not reproduced here", hint)
    return LoraConfig(**{name: found[name] for name in UNDERSTOOD & found.keys()})


def settled(lora: Lora, checkpoint: Checkpoint) -> Lora:
    """What `lora` will be: a checkpoint's own adapter is trained on, with the rank, scale and layers that it has.

    Raises `ConfigError` where something else was asked for; a default is not asked for.
    """
    if not checkpoint.is_adapter or lora.rank == 0:
        return lora
    found = read_json(Path(checkpoint.path) / ADAPTER)
    own = {"rank": found["r"], "alpha": float(found["lora_alpha"]), "targets": _kinds(found["target_modules"])}
    for name, has in own.items():
        asked = _kinds(lora.targets) if name == "targets" else getattr(lora, name)
        if asked not in (has, getattr(type(lora)(), name)):
            told = f"is {asked}, but the adapter of {checkpoint.name}, which is trained on, has {has}"
            raise ConfigError(f"lora.{name}", told, "leave it out, or train all weights: lora.rank 0")
    return lora.model_copy(update=own)


def _kinds(modules: Sequence[str]) -> tuple[str, ...]:
    """The last words of modules' names, as a setting would name them; a pattern as it is."""
    return (modules,) if isinstance(modules, str) else tuple(sorted({name.rpartition(".")[2] for name in modules}))


def linear_targets(model: PreTrainedModel) -> list[str] | str:
    """What a fresh adapter changes: every linear layer of the transformer. Where experts are held in one tensor peft
    would wrap that too; it is left as it is, as is the router before it."""
    config = LoraConfig(target_modules="all-linear")
    convert_peft_config_for_transformers(config, model, None)
    return sorted(config.target_modules or ()) if config.target_parameters else "all-linear"


def check_experts(config: LoraConfig, model: PreTrainedModel, name: str) -> None:
    """Raise `CheckpointError` where peft would wrap a tensor of fused experts."""
    tried = copy.deepcopy(config)
    convert_peft_config_for_transformers(tried, model, None)
    if tried.target_parameters:
        told = f"an adapter would change {min(tried.target_parameters)}, a tensor of several experts"
        raise CheckpointError(name, told, f"adapt other layers: lora.targets {linear_targets(model)}")


def check_tensors(checkpoint: Checkpoint, model: PreTrainedModel, head: bool) -> None:
    """Raise `CheckpointError` where a tensor of the file is not A or B of a linear layer inside the transformer."""
    for key, shape in shapes_of(Path(checkpoint.path) / ADAPTER_WEIGHTS).items():
        name = key.removeprefix(PREFIX)
        if head and name.partition(".")[0] in HEADS:
            continue
        if (matrix := MATRIX.fullmatch(name)) is None:
            raise CheckpointError(checkpoint.name, f"its adapter holds {name}, not A or B of a linear layer", HINT)
        if why := _misfit(model, matrix["module"], matrix["name"], shape):
            raise CheckpointError(checkpoint.name, f"its adapter changes {matrix['module']}, {why}", HINT)


def _beyond(found: dict[str, Any], head: bool) -> str | None:
    """What a config asks for beyond A and B of linear layers, in words."""
    if found.get("peft_type") != "LORA":
        return f"is of the type {found.get('peft_type')}"
    if (start := found.get("init_lora_weights", True)) not in HARMLESS_STARTS:
        return f"was begun with init_lora_weights={start!r}, which moves a part of the base's weights into it"
    saved = {str(module) for module in found.get("modules_to_save") or ()}
    if extra := sorted(saved - (set(HEADS) if head else set())):
        return f"replaces whole modules (modules_to_save: {', '.join(extra)})"
    if found.get("revision") not in (None, "main") and not Path(str(found["base_model_name_or_path"])).is_dir():
        return f"stands on the revision {found['revision']!r} of its base"
    ordinary = {field.name: field.default for field in fields(LoraConfig) if field.default is not MISSING}
    for name, value in sorted(found.items()):
        if name not in UNDERSTOOD | SAYS_NOTHING and value not in (None, False, [], {}, ordinary.get(name)):
            return f"has {name}={value!r}"
    return None


def _can_be_merged(found: dict[str, Any]) -> bool:
    """Does the adapter change weights? One that adds tokens or layers cannot be merged."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING.get(found.get("peft_type"))
    return config is not None and not issubclass(config, PromptLearningConfig | AdaptionPromptConfig)


def _misfit(model: PreTrainedModel, module: str, matrix: str, shape: list[int]) -> str | None:
    """Why an A or B cannot belong to a module, in words."""
    try:
        found = model.get_submodule(module)
    except AttributeError:
        return f"which {type(model).__name__} does not have"
    layer = found.get_base_layer() if isinstance(found, LoraLayer) else found
    if not module.startswith(f"{model.base_model_prefix}."):
        return "which is not in the transformer but after it"
    if not isinstance(layer, nn.Linear | Conv1D):
        return f"which is no linear layer but {type(layer).__name__}"
    rows, columns = layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.shape[::-1]
    expected, side = (columns, 1) if matrix == "A" else (rows, 0)
    if len(shape) != 2 or shape[side] != expected:
        return f"whose {matrix} has the shape {shape} where {expected:,} are needed: it belongs to another base model"
    return None
