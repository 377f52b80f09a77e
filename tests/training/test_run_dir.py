from __future__ import annotations

import errno
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from heed import config
from heed.errors import ConfigError, RunError
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings
from heed.training.run_dir import RunDir
from heed.training.state import Memory


def settings(path: Path, **others: Any) -> SFTSettings:
    return SFTSettings(model="gpt2", output=str(path / "run"), **others)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def save(text: str) -> Any:
    return lambda directory: (directory / "weights").write_text(text)


def finished_run(path: Path, text: str = "old") -> None:
    with RunDir.create(settings(path)) as run:
        run.record(1, {"loss": 1.0})
        run.save_checkpoint(save(text))
        run.write_json("report.json", {"text": text})
        run.finished()


def everything(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


class TestWhatIsWritten:
    def test_the_settings_are_a_recipe_that_gives_the_same_settings(self, tmp_path: Path) -> None:
        given = settings(tmp_path, seed=4, epochs=0.5)
        RunDir.create(given)
        assert config.load(SFTSettings, [str(tmp_path / "run" / "config.yaml")]) == given

    def test_rows_are_there_as_soon_as_they_are_recorded(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            run.record(1, {"loss": 0.5, "kl": math.nan, "score": math.inf, "accuracy": None})
            run.time(1, {"seconds": 2.0})
            run.samples(1, [{"prompt": "é", "scores": [1.0, math.nan]}, {"prompt": "b"}])
            assert rows(run.path / "metrics.jsonl") == [
                {"step": 1, "loss": 0.5, "kl": None, "score": None, "accuracy": None}
            ]
            assert rows(run.path / "timings.jsonl") == [{"step": 1, "seconds": 2.0}]
            assert rows(run.path / "samples.jsonl") == [
                {"step": 1, "prompt": "é", "scores": [1.0, None]},
                {"step": 1, "prompt": "b"},
            ]

    def test_metrics_are_the_same_twice(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            with RunDir.create(settings(tmp_path / name)) as run:
                run.record(1, {"loss": 0.1 + 0.2})
        assert (tmp_path / "a/run/metrics.jsonl").read_bytes() == (tmp_path / "b/run/metrics.jsonl").read_bytes()

    def test_description(self, tmp_path: Path) -> None:
        run = RunDir.create(settings(tmp_path, seed=4))
        described = json.loads((run.path / "run.json").read_text())
        assert (described["seed"], described["finished"], described["settings"]) == (4, False, "SFTSettings")
        assert described["versions"]["torch"]
        assert described["host"]["processor"]
        run.finished()
        assert json.loads((run.path / "run.json").read_text())["finished"] is True

    def test_finished_says_where_and_what_next(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "heed"), RunDir.create(settings(tmp_path)) as run:
            run.save_checkpoint(save("x"))
            run.finished("heed", "reward", "--model", "runs/my sft")
        assert caplog.messages == [f"wrote  {run.path / 'checkpoint'}", "next   heed reward --model 'runs/my sft'"]


class TestCheckpoint:
    def test_a_save_that_fails_leaves_the_old_one(self, tmp_path: Path) -> None:
        def fail(directory: Path) -> None:
            (directory / "weights").write_text("half")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), RunDir.create(settings(tmp_path)) as run:
            run.save_checkpoint(save("first"))
            run.save_checkpoint(fail)
        assert everything(run.checkpoint) == {"weights": b"first"}
        assert [path.name for path in run.path.glob("checkpoint*")] == ["checkpoint"]

    def test_a_new_one_replaces_the_old_one_whole(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            run.save_checkpoint(lambda directory: (directory / "extra").write_text("x"))
            assert run.save_checkpoint(save("second")) == run.checkpoint
        assert everything(run.checkpoint) == {"weights": b"second"}

    def test_a_swap_that_was_cut_short_is_undone(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            run.save_checkpoint(save("old"))
        (tmp_path / "run/checkpoint").rename(tmp_path / "run/checkpoint.replaced")
        (tmp_path / "run/checkpoint.partial").mkdir()
        run = RunDir.create(settings(tmp_path, resume=True))
        assert everything(run.checkpoint) == {"weights": b"old"}
        assert [path.name for path in run.path.glob("checkpoint*")] == ["checkpoint"]


class TestClaiming:
    def test_a_finished_run_is_refused_and_untouched(self, tmp_path: Path) -> None:
        finished_run(tmp_path)
        before = everything(tmp_path)
        with pytest.raises(ConfigError, match=r"holds a finished run\nhint: add --overwrite"):
            RunDir.create(settings(tmp_path))
        assert everything(tmp_path) == before

    @pytest.mark.parametrize("left", ["rows", "a checkpoint", "a state"])
    def test_a_stopped_run_is_refused_and_untouched(self, tmp_path: Path, left: str) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            if left == "rows":
                run.record(1, {"loss": 1.0})
            elif left == "a checkpoint":
                run.save_checkpoint(save("x"))
            else:
                run.save_state(1, {"memory": Memory(x=1)})
        before = everything(tmp_path)
        with pytest.raises(ConfigError, match=r"holds a run that was stopped\nhint: go on with it: heed resume"):
            RunDir.create(settings(tmp_path))
        assert everything(tmp_path) == before

    def test_a_run_that_left_nothing_may_be_started_again(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), RunDir.create(settings(tmp_path)):
            raise KeyboardInterrupt
        with RunDir.create(settings(tmp_path)) as run:
            run.record(1, {"loss": 2.0})
        assert rows(run.path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]

    def test_overwrite_moves_the_old_run_aside_until_the_new_one_is_finished(self, tmp_path: Path) -> None:
        finished_run(tmp_path)
        old = everything(tmp_path / "run")
        with RunDir.create(settings(tmp_path, overwrite=True)) as run:
            assert everything(tmp_path / "run.replaced-1") == old
            assert sorted(everything(run.path)) == ["config.yaml", "run.json", "run.lock"]
            run.save_checkpoint(save("new"))
            assert everything(tmp_path / "run.replaced-1") == old
            run.finished()
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert everything(run.checkpoint) == {"weights": b"new"}

    def test_overwriting_and_failing_loses_nothing(self, tmp_path: Path) -> None:
        finished_run(tmp_path)
        old = everything(tmp_path / "run")
        for number in (1, 2):
            with pytest.raises(RunError), RunDir.create(settings(tmp_path, overwrite=True)) as run:
                run.record(number, {"loss": 1.0})
                raise RunError("this step", "the loss is nan", "lower it")
        assert everything(tmp_path / "run.replaced-1") == old
        assert rows(tmp_path / "run.replaced-2" / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
        assert rows(tmp_path / "run" / "metrics.jsonl") == [{"step": 2, "loss": 1.0}]

    def test_what_is_not_a_run_is_refused_even_with_overwrite(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/metrics.jsonl").write_text("mine")
        with pytest.raises(ConfigError, match="not a run's"):
            RunDir.create(settings(tmp_path, overwrite=True))
        assert everything(tmp_path) == {"run/metrics.jsonl": b"mine"}

    @pytest.mark.parametrize("inside", ["run", "run/checkpoint", "run/data.jsonl"])
    def test_a_run_does_not_write_over_what_it_reads(self, tmp_path: Path, inside: str) -> None:
        finished_run(tmp_path)
        (tmp_path / "run/data.jsonl").write_text("{}")
        before = everything(tmp_path)
        with pytest.raises(ConfigError, match="lies in the output"):
            RunDir.create(settings(tmp_path, overwrite=True, data=str(tmp_path / inside)))
        assert everything(tmp_path) == before

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("mine")
        with pytest.raises(ConfigError, match="is a file"):
            RunDir.create(settings(tmp_path))
        with pytest.raises(ConfigError, match="cannot write"):
            RunDir.create(settings(tmp_path / "run"))


class TestGoingOn:
    def test_rows_are_cut_to_the_state(self, tmp_path: Path) -> None:
        memory = Memory(x=1)
        with RunDir.create(settings(tmp_path)) as run:
            run.record(1, {"loss": 1.0})
            run.samples(1, [{"text": "a"}])
            run.save_state(1, {"memory": memory})
            run.record(2, {"loss": 2.0})
            run.samples(2, [{"text": "b"}])
            run.write_json("report.json", {})
        with RunDir.create(settings(tmp_path, resume=True)) as run:
            assert run.step == 1
            assert rows(run.path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
            assert rows(run.path / "samples.jsonl") == [{"step": 1, "text": "a"}]
            assert not (run.path / "report.json").exists()
            run.record(2, {"loss": 3.0})
        assert rows(run.path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]

    def test_without_a_state_it_begins_again(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            run.record(1, {"loss": 1.0})
        with RunDir.create(settings(tmp_path, resume=True)) as run:
            assert (run.step, run.saved, (run.path / "metrics.jsonl").exists()) == (0, None, False)

    @pytest.mark.parametrize(("what", "expected"), [("nothing", "holds no run"), ("finished", "is finished")])
    def test_there_must_be_something_to_go_on_with(self, tmp_path: Path, what: str, expected: str) -> None:
        if what == "finished":
            finished_run(tmp_path)
        with pytest.raises(ConfigError, match=expected):
            RunDir.create(settings(tmp_path, resume=True))

    def test_another_stages_run_is_refused(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path)) as run:
            run.record(1, {})
        other = RewardSettings(model="gpt2", output=str(tmp_path / "run"), resume=True)
        with pytest.raises(ConfigError, match="is a run of sft, not of reward"):
            RunDir.create(other)

    def test_the_last_states_are_kept(self, tmp_path: Path) -> None:
        with RunDir.create(settings(tmp_path, kept_states=2)) as run:
            for step in (1, 2, 3):
                run.save_state(step, {"memory": Memory(x=step)})
            assert sorted(path.name for path in (run.path / "state").iterdir()) == ["step-00000002", "step-00000003"]
            run.finished()
        assert not (run.path / "state").exists()


class TestStopping:
    def test_ctrl_c_keeps_rows_and_leaves_no_checkpoint(self, tmp_path: Path) -> None:
        def interrupted(directory: Path) -> None:
            (directory / "weights").write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), RunDir.create(settings(tmp_path)) as run:
            run.record(1, {"loss": 1.0})
            run.save_checkpoint(interrupted)
        assert rows(run.path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
        assert list(run.path.glob("checkpoint*")) == []

    def test_a_loss_that_is_not_finite_names_step_and_checkpoint(self, tmp_path: Path) -> None:
        for name, last in (("a", "no state was saved yet"), ("b", "the last good checkpoint is")):
            with pytest.raises(RunError) as caught, RunDir.create(settings(tmp_path / name)) as run:
                run.record(6, {"loss": 1.0})
                if name == "b":
                    run.save_checkpoint(save("x"))
                raise RunError("this step", "the loss is nan", "lower it")
            assert caught.value.where == f"{run.path}: step 7"
            assert str(caught.value).endswith(f"hint: lower it; {last}" + (f" {run.checkpoint}" if name == "b" else ""))

    def test_a_full_disk_is_told_as_such(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no space left"), RunDir.create(settings(tmp_path)):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_that_was_killed_before_it_had_said_so_may_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.lock", "config.yaml", "run.json.partial"):
        (tmp_path / "run" / name).write_text("")
    with RunDir.create(settings(tmp_path)) as run:
        run.finished()
