"""How large the models of a run are, how many of their weights are trained, in what precision and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.models.policy import Policy
from heed.models.scalar_head import ScalarModel
from heed.models.trunk import Trunk


def census(trained: Mapping[str, Policy | ScalarModel], frozen: Mapping[str, Policy | ScalarModel]) -> dict[str, Any]:
    """For `run.json`: trained parameters by role; all parameters, dtypes and devices, each trunk counted once."""
    models = [*trained.values(), *frozen.values()]
    trunks = list({id(model.trunk): model.trunk for model in models}.values())
    return {
        "trained": {role: sum(p.numel() for p in model.parameters().values()) for role, model in trained.items()},
        "parameters": sum(_own(trunk) for trunk in trunks),
        "models": len(trunks),
        "dtype": sorted({str(trunk.model.dtype).removeprefix("torch.") for trunk in trunks}),
        "device": sorted({str(trunk.device) for trunk in trunks}),
    }


def told(found: Mapping[str, Any]) -> str:
    """A census in one line: `parameters trained: policy 12,288; 7,600,000 in all, in 1 model; float32 on cpu`."""
    trained = " and ".join(f"{role} {count:,}" for role, count in found["trained"].items())
    models = "1 model" if found["models"] == 1 else f"{found['models']} models"
    where = f"{' and '.join(found['dtype'])} on {' and '.join(found['device'])}"
    return f"parameters trained: {trained}; {found['parameters']:,} in all, in {models}; {where}"


def _own(trunk: Trunk) -> int:
    return sum(parameter.numel() for parameter in trunk.model.parameters())
