"""Each tracker, read back by its own library, holds the numbers of metrics.jsonl: of a run that was never stopped, and
of one that broke off between two saved states and went on."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heed.errors import ConfigError
from heed.settings.common import LoraSettings, OptimizerSettings
from heed.settings.sft import SFTSettings
from heed.stages import sft
from heed.tracking.follow import Trackers, require
from heed.tracking.stores import TRACKERS, columns
from heed.training.loop import Loop

Numbers = Counter[tuple[int, str, float]]
ALL = ("wandb", "tensorboard", "trackio")
STEPS = 6


class Broken(Exception):
    """Stands for a power cut: nothing of heed catches it."""


@pytest.fixture(scope="module", autouse=True)
def _stores() -> Iterator[None]:
    """trackio reads its directory once, when it is imported: the process has one of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR", "TRACKIO_PROJECT"):
            patch.delenv(name, raising=False)
        from trackio.utils import TRACKIO_DIR

        assert str(TRACKIO_DIR) == os.environ["TRACKIO_DIR"]
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "demonstrations.jsonl"
    rows = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(base: Path, data: Path, output: Path, **changes: Any) -> SFTSettings:
    given = {
        "model": str(base), "data": str(data), "output": str(output), "batch": 8, "epochs": 1.0, "template": "plain",
        "lora": LoraSettings(rank=4, alpha=8), "optimizer": OptimizerSettings(learning_rate=3e-3), "evaluations": 2,
        "completions": 4, "completion_tokens": 6, "few_shot": 0, "max_tokens": 60, "validation_share": 0.2,
        "track": ALL, "save_every": 2,
    }  # fmt: skip
    return SFTSettings(**{**given, **changes})


@pytest.fixture(scope="module")
def runs(tiny_directory: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`whole` ran through; `broken` was torn off in step 5, after the state of step 4, and again in step 2; went on."""
    place = tmp_path_factory.mktemp("runs")
    record = Loop.record

    def breaking(step: int) -> Callable[..., None]:
        def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
            record(self, *arguments, **options)
            if self.step == step:
                raise Broken

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked for an address"))
        sft.run(settings(tiny_directory, data, place / "whole"))
        for step in (1, 5):
            patch.setattr(Loop, "record", breaking(step))
            with pytest.raises(Broken):
                sft.run(settings(tiny_directory, data, place / "broken", resume=step > 1))
        patch.setattr(Loop, "record", record)
        sft.run(settings(tiny_directory, data, place / "broken", resume=True))
    return {path.name: path for path in place.iterdir()}


# ── what each library reads ──────────────────────────────────────────────────────────────────────────────────────────


def history(run: Path) -> Iterator[dict[str, Any]]:
    """The rows of W&B's offline directories, oldest first: protocol buffers in LevelDB's log, blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        content, place, parts = file.read_bytes(), 7, b""
        while place + 7 <= len(content):
            left = 32768 - place % 32768
            if left < 7:
                place += left
                continue
            _, length, kind = struct.unpack("<IHB", content[place : place + 7])
            parts += content[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last of several parts
                record = Record()
                record.ParseFromString(parts)
                parts = b""
                if record.WhichOneof("record_type") == "history":
                    yield {item.key or "/".join(item.nested_key): json.loads(item.value_json)
                           for item in record.history.item}  # fmt: skip


def of_wandb(run: Path) -> Numbers:
    return Counter(
        (row["_step"], name, float(value))
        for row in history(run)
        for name, value in row.items()
        if not name.startswith(("_", "samples"))
    )


def of_tensorboard(run: Path) -> Numbers:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return Counter(
        (event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)
    )  # fmt: skip


def trackio_rows(run: Path) -> list[dict[str, Any]]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    (found,) = [one for one in trackio.Api().runs("heed") if one.name.startswith(f"{run.name}-")]
    return list(SQLiteStorage.get_logs("heed", found.name))


def of_trackio(run: Path) -> Numbers:
    return Counter(
        (row["step"], name, float(value))
        for row in trackio_rows(run)
        for name, value in row.items()
        if name not in ("step", "timestamp", "samples")
    )


READERS = {"wandb": of_wandb, "tensorboard": of_tensorboard, "trackio": of_trackio}


def written(run: Path) -> list[tuple[int, str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sorted((row["step"], k, float(v)) for row in rows for k, v in row.items() if k != "step" and v is not None)


@pytest.mark.parametrize("tracker", ALL)
@pytest.mark.parametrize("name", ["whole", "broken"])
def test_a_tracker_holds_the_numbers_of_metrics_jsonl(name: str, tracker: str, runs: dict[str, Path]) -> None:
    expected = written(runs[name])
    assert {step for step, _, _ in expected} == set(range(STEPS + 1))
    found = READERS[tracker](runs[name])
    assert set(found.values()) == {1}  # nothing twice
    names = {key for _, key, _ in expected}
    shown = sorted(row for row in found if row[1] in names)
    assert [row[:2] for row in shown] == [row[:2] for row in expected]
    exact = 1e-6 if tracker == "tensorboard" else 0.0  # TensorBoard's numbers have 32 bits
    assert [row[2] for row in shown] == pytest.approx([row[2] for row in expected], rel=exact, abs=0.0)
    assert {key for _, key, _ in found} - names == {"time/step", "time/evaluation", "time/io", "perf/tokens_per_second"}


def test_one_wandb_run_went_on(runs: dict[str, Path]) -> None:
    names = [path.name for path in runs["broken"].glob("wandb/offline-run-*/run-*.wandb")]
    assert len(names) == 3
    assert len(set(names)) == 1


@pytest.mark.parametrize("name", ["whole", "broken"])
def test_samples_are_a_table_or_text(name: str, runs: dict[str, Path]) -> None:
    rows = [json.loads(line) for line in (runs[name] / "samples.jsonl").read_text().splitlines()]
    names, cells = columns(rows)
    assert "responses.sft" in names

    (media,) = runs[name].glob("wandb/offline-run-*/files/media/table/samples*.json")
    table = json.loads(media.read_text())
    assert (table["columns"], table["data"]) == (names, cells)

    (told,) = [row["samples"]["_value"] for row in trackio_rows(runs[name]) if "samples" in row]
    assert [[row[name] for name in names] for row in told] == cells

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs[name] / "tensorboard")).Reload()
    (text,) = events.Tensors("samples/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert all(json.dumps(row["responses"]["sft"], ensure_ascii=False) in shown for row in rows)


def test_a_tracker_asked_for_later_gets_every_step(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": i, "x": i / 8}) + "\n" for i in range(5)))
    Trackers(tmp_path, ["tensorboard"], {}).close()
    assert sorted(of_tensorboard(tmp_path)) == [(i, "x", i / 8) for i in range(5)]
    Trackers(tmp_path, ["tensorboard"], {}).close()
    assert set(of_tensorboard(tmp_path).values()) == {1}


def test_samples_are_sent_once_also_those_of_a_step_before_the_last(tmp_path: Path) -> None:
    """An evaluation writes its samples at step 0, after the rows of all of its steps."""
    run = tmp_path / "samples"
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": i, "x": i / 8}) + "\n" for i in range(1, 4)))
    first = [{"step": step, "response": f"s{step}"} for step in (1, 2, 3)]
    (run / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first))
    Trackers(run, ["trackio"], {}).close()
    Trackers(run, ["trackio"], {}).close()
    with (run / "samples.jsonl").open("a") as file:
        file.write(json.dumps({"step": 0, "response": "late"}) + "\n")
    Trackers(run, ["trackio"], {}).close()
    Trackers(run, ["trackio"], {}).close()
    told = [(row["step"], cell["response"]) for row in trackio_rows(run) if "samples" in row
            for cell in row["samples"]["_value"]]  # fmt: skip
    assert sorted(told) == [(0, "late"), (1, "s1"), (2, "s2"), (3, "s3")]


def test_what_trackio_lost_is_sent_again(tmp_path: Path) -> None:
    """Its rows are written in the background: a process that is killed may have said that they are sent."""
    run = tmp_path / "lost"
    run.mkdir()
    rows = [json.dumps({"step": i, "x": i / 8}) + "\n" for i in range(6)]
    (run / "metrics.jsonl").write_text("".join(rows[:3]))
    Trackers(run, ["trackio"], {}).close()
    memory = json.loads((run / "tracked.json").read_text())
    memory["trackio"]["last"] = 4
    (run / "tracked.json").write_text(json.dumps(memory))
    (run / "metrics.jsonl").write_text("".join(rows))
    Trackers(run, ["trackio"], {}).close()
    assert sorted(of_trackio(run).elements()) == [(i, "x", i / 8) for i in range(6)]


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(TRACKERS["tensorboard"], "log", refuse)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 2.0}\n')
    trackers = Trackers(tmp_path, ["tensorboard"], {})
    trackers.follow()
    trackers.close()
    monkeypatch.undo()
    Trackers(tmp_path, ["tensorboard"], {}).close()
    assert sorted(of_tensorboard(tmp_path)) == [(1, "x", 2.0)]  # it was not said to be sent


def test_a_missing_library_is_two_lines_before_anything_is_made(
    tiny_directory: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as told:
        sft.run(settings(tiny_directory, data, tmp_path / "run", track=("wandb",)))
    assert str(told.value) == "--track: wandb is not installed\nhint: pip install 'heed[wandb]', or leave it out"
    assert not (tmp_path / "run").exists()
    require(())


def test_no_library_is_imported_unasked(tmp_path: Path) -> None:
    code = "import sys, heed.training.run_dir, heed.flows.demo; sys.exit(str({%s} & set(sys.modules) or 0))"
    code = code % ", ".join(map(repr, ALL))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.strip() in ("", "0"), found.stderr
