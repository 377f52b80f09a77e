"""Every combination is a run, all checked before the first begins; a stopped sweep goes on; one page compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from heed import cli
from heed.errors import ConfigError, RunError
from heed.flows import sweep
from heed.flows.sweep import axis, combinations
from heed.settings.sweep import SweepSettings

FIXED = ("batch=8", "template=plain", "lora.alpha=8", "max_tokens=60", "completions=0", "validation_share=0.2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "demonstrations.jsonl"
    rows = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(base: Path, data: Path, output: Path, *grid: str, **changes: Any) -> SweepSettings:
    whole = (f"model={base}", f"data={data}", *FIXED, *grid)
    return SweepSettings(what=("sft",), grid=whole, output=str(output), **changes)


GRID = ("optimizer.learning_rate=1e-4,3e-3", "lora.rank=2,4", "seed=0,1")


def test_a_sweep_that_was_stopped_goes_on(
    tiny_directory: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It stops in the sixth of eight runs; the five before are not run again. Then one page has them all."""
    model, run = sweep.STAGES["sft"]
    done: list[str] = []

    def stopping(stage_settings: Any) -> object:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(Path(stage_settings.output).name)
        return run(stage_settings)

    monkeypatch.setattr(sweep, "STAGES", {"sft": (model, stopping)})
    with pytest.raises(KeyboardInterrupt):
        sweep.run(settings(tiny_directory, data, tmp_path / "sweep", *GRID))
    with pytest.raises(ConfigError, match="heed resume"):
        sweep.run(settings(tiny_directory, data, tmp_path / "sweep", *GRID))
    monkeypatch.setattr(
        sweep, "STAGES", {"sft": (model, lambda told: (done.append(Path(told.output).name), run(told)))}
    )
    assert cli.main(["resume", str(tmp_path / "sweep")]) == 0

    names = [
        f"learning_rate-{rate}_rank-{rank}_seed-{seed}"
        for rate in ("1e-4", "3e-3")
        for rank in (2, 4)
        for seed in (0, 1)
    ]
    assert done == names
    for name in names:
        recipe = yaml.safe_load((tmp_path / "sweep" / name / "config.yaml").read_text())
        rate, rank, seed = (part.partition("-")[2] for part in name.split("_")[1:])
        assert (recipe["optimizer"]["learning_rate"], recipe["lora"]["rank"]) == (float(rate), int(rank))
        assert (recipe["seed"], recipe["lora"]["alpha"]) == (int(seed), 8)
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert all(name in page for name in names)
    assert "mean ± sd of 2 seeds" in page
    assert json.loads((tmp_path / "sweep" / "report.json").read_text())["failed"] == []
    assert "8 of 8 runs came to their end" in capsys.readouterr().out


def test_one_that_cannot_go_on_is_left_behind(
    tiny_directory: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run = sweep.STAGES["sft"]

    def diverging(told: Any) -> object:
        if told.optimizer.learning_rate > 1:
            raise RunError("run", "the loss is not finite", "lower the learning rate")
        return run(told)

    monkeypatch.setattr(sweep, "STAGES", {"sft": (model, diverging)})
    sweep.run(settings(tiny_directory, data, tmp_path / "sweep", "optimizer.learning_rate=9,1e-3"))
    told = json.loads((tmp_path / "sweep" / "report.json").read_text())
    assert told == {"stage": "sft", "runs": 2, "failed": ["optimizer.learning_rate 9"]}
    assert (tmp_path / "sweep" / "learning_rate-1e-3" / "checkpoint").is_dir()


def test_the_table_has_mean_and_spread_over_seeds(tiny_directory: Path, data: Path, tmp_path: Path) -> None:
    planned = combinations(settings(tiny_directory, data, tmp_path, "lora.rank=2,4", "seed=0,1"), tmp_path)
    for one, losses in zip(planned, ([9.0, 1.0], [9.0, 2.0], [9.0, 4.0], [9.0, 4.0]), strict=True):
        Path(one.settings.output).mkdir()
        rows = [{"step": step, "loss/train": 7.0, "loss/validation": loss} for step, loss in enumerate([*losses, None])]
        (Path(one.settings.output) / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(sweep.table(planned)) == [
        {"lora.rank": "2", "loss/validation": "1.5 ± 0.7071", "runs": "2"},
        {"lora.rank": "4", "loss/validation": "4 ± 0", "runs": "2"},
    ]


def test_names_that_end_alike_are_written_whole(tmp_path: Path) -> None:
    grid = ("model=m", "reward_model=r", "optimizer.learning_rate=1,2", "value_optimizer.learning_rate=3,4")
    told = SweepSettings(what=("ppo",), grid=grid, output="x")
    names = [Path(one.settings.output).name for one in combinations(told, tmp_path)]
    assert names[1] == "optimizer.learning_rate-1_value_optimizer.learning_rate-4"
    assert len(set(names)) == 4


def test_a_recipe_and_its_variables(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("set: {size: null}\nmodel: gpt2-${size}\nbatch: 3\n")
    told = SweepSettings(what=("sft", str(tmp_path / "r.yaml")), grid=("set.size=s,m", "batch=5"), output="x")
    found = [(one.settings.model, one.settings.batch) for one in combinations(told, tmp_path)]  # type: ignore[attr-defined]
    assert found == [("gpt2-s", 5), ("gpt2-m", 5)]


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (["lora.rnak=2,4"], "unknown setting\nhint: did you mean lora.rank"),
        (["lora.rank=2,x"], "--lora.rank: 'x'"),
        (["lora.rank"], "write a setting and its values: lora.rank=8,16"),
        (["lora.rank=2,,4"], "write a setting and its values"),
        (["lora.rank=2,2"], "has a value twice"),
        (["lora.rank=2", "lora.rank=4"], "names a setting twice"),
        (["output=a,b"], "output is the sweep's own"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_run(
    grid: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", "sft", "--grid", "model=m", *grid, "--output", str(tmp_path / "sweep")]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert len(shown.strip().splitlines()) == 2
    assert not (tmp_path / "sweep").exists()


def test_only_stages_that_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean reward"):
        sweep.run(SweepSettings(what=("rewards",), grid=("seed=1",), output=str(tmp_path / "x")))
    assert axis("a.b= 1 , 2") == ("a.b", ["1", "2"])
