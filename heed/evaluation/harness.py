"""Public benchmarks through EleutherAI's lm-evaluation-harness, `pip install 'heed[eval]'`. No task is copied here.

Most tasks fetch their data from the hub: without a network, name the directory of your own as `include`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heed.errors import ConfigError
from heed.formulas.statistics import Z95, Estimate
from heed.models.policy import Policy


def require_harness() -> None:
    """Raises ConfigError where the library is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("harness.tasks", "lm-eval is not installed", "pip install 'heed[eval]', or leave it out")


def benchmarks(
    policy: Policy, tasks: Sequence[str], limit: int, size: int, include: str, seed: int
) -> dict[str, Estimate]:
    """`task metric` → the harness's figure ± 1.96 of its own standard errors, for the model as it is, adapter and all.

    `limit` examples of each task (0: all), `size` rows at once. Raises ConfigError for a task that is not there.
    """
    evaluator = importlib.import_module("lm_eval.evaluator")
    manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=include or None)
    model_class = importlib.import_module("lm_eval.models.huggingface").HFLM
    if missing := [task for task in tasks if task not in manager.all_tasks]:
        raise ConfigError("harness.tasks", f"the harness has no task {missing[0]}", "lm-eval ls tasks lists them")
    trunk = policy.trunk
    with policy.active():
        model = model_class(pretrained=trunk.model, tokenizer=trunk.tokenizer, batch_size=size)
        found = evaluator.simple_evaluate(
            model=model, tasks=list(tasks), limit=limit or None, task_manager=manager, bootstrap_iters=1000,
            random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
            log_samples=False,
        )  # fmt: skip
    return dict(_figures(found))


def _figures(found: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    for task, metrics in found["results"].items():
        n = int(found["n-samples"][task]["effective"])
        for key, value in metrics.items():
            metric, _, kept = key.partition(",")  # `acc,none`: the metric, and the filter that the answers went through
            if not isinstance(value, int | float) or not kept or metric.endswith("_stderr"):
                continue
            error = metrics.get(f"{metric}_stderr,{kept}")
            half = Z95 * error if isinstance(error, int | float) else float("nan")
            name = metric if kept == "none" else f"{metric} ({kept})"
            yield f"{task} {name}", Estimate(float(value), value - half, value + half, n)
