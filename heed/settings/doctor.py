"""Settings of `heed doctor`."""

from __future__ import annotations

import warnings

from pydantic import Field

from heed.settings.common import DtypeName, Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # `json` is an old method of pydantic's models, which nobody calls here

    class DoctorSettings(Settings):
        """A recipe, a run, or a file of rollouts of PPO → what is wrong with it, and what mends it."""

        target: str = Field("", description="a recipe of `heed ppo` to test before it runs, or the directory of a run")
        set: dict[str, str] = Field({}, description="values for the variables of the recipe: --set.name VALUE")
        rollouts: str = Field(
            "", description="instead: JSONL file of any library, a response a line; docs/negative-kl.md describes it"
        )
        model: str = Field(
            "", description="the policy that wrote `rollouts`; empty = only what the file tells by itself"
        )
        reference: str = Field("", description="the model that KL is measured from; needed with `model`")
        temperature: float = Field(1.0, gt=0, description="temperature that policy and reference are scored at")
        json: str = Field("", description="file that the findings are written to, for programs")  # type: ignore[assignment]
        batch: int = Field(16, ge=1, description="rows scored at once; changes speed and memory only")
        seed: int = Field(0, ge=0, description="seed of the randomised test (T9)")
        dtype: DtypeName = Field("float32", description="dtype of the weights; the exact tests are made for float32")
        device: str = Field("auto", description="cpu, cuda, mps; auto = the accelerator from 5 M weights")
