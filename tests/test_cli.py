from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heed import cli
from heed.errors import DataError
from heed.settings.common import StageSettings

Heed = Callable[..., subprocess.CompletedProcess[str]]


def everything_below(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


class TestHelp:
    def test_overview_is_one_screen_with_every_command(self, heed: Heed) -> None:
        shown = heed("--help")
        assert shown.returncode == 0
        assert len(shown.stdout.splitlines()) <= 24
        assert all(re.search(rf"^ +heed {name} ", shown.stdout, re.MULTILINE) for name in cli.COMMANDS)
        assert heed().stdout == shown.stdout

    def test_version(self, heed: Heed) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", heed("--version").stdout)

    @pytest.mark.parametrize("name", cli.COMMANDS)
    def test_stage_help_names_every_setting_and_default(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) <= 60
        model = cli.settings_of(cli.COMMANDS[name])
        assert all(re.search(rf"^--{setting}\b", shown, re.MULTILINE) for setting in model.model_fields)
        assert cli.main([name, "--help-all"]) == 0
        whole = capsys.readouterr().out
        for setting, _ in cli.config.fields(model):
            assert re.search(rf"^ *--{re.escape(setting)}\b", whole, re.MULTILINE)

    def test_help_shows_the_stages_own_default_of_a_group(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli.main(["ppo", "--help-all"])
        assert re.search(r"--optimizer\.learning_rate +3e-05 ", capsys.readouterr().out)

    def test_help_leaves_torch_alone(self) -> None:
        code = "import sys, heed.cli; heed.cli.main(['ppo', '--help-all']); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0

    @pytest.mark.parametrize("name", cli.COMMANDS)
    def test_every_command_has_a_stage(self, name: str) -> None:
        assert importlib.util.find_spec(f"heed.{cli.COMMANDS[name].stage}")


MISTAKES = {
    "command": (["pppo", "--output", "o"], "pppo: is not a command of heed", "did you mean ppo?"),
    "flag": (["sft", "--learning-rte", "1"], "--learning-rte: unknown setting", "mean optimizer.learning_rate?"),
    "type": (["sft", "--epochs", "abc"], "--epochs: 'abc' should be a valid number", "passes over the data"),
    "missing": (["ppo", "--output", "o"], "--model: is required", "--model VALUE"),
    "recipe": (["sft", "nowhere.yaml"], "nowhere.yaml: no such recipe file", "there is broken.yaml, typo.yaml"),
    "broken": (["sft", "broken.yaml"], "broken.yaml:3: cannot be read as YAML", "mend that line"),
    "key": (["sft", "typo.yaml"], "typo.yaml: modle: unknown setting", "did you mean model?"),
    "pair": (["chat", "a", "b", "c"], "--models: ", "one or two checkpoints"),
}  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "what", "hint"), MISTAKES.values(), ids=MISTAKES)
    def test_two_lines_exit_2_and_nothing_written(
        self, heed: Heed, tmp_path: Path, arguments: list[str], what: str, hint: str
    ) -> None:
        (tmp_path / "broken.yaml").write_text("model: m\noutput: [\n")
        (tmp_path / "typo.yaml").write_text("modle: m\noutput: o\n")
        before = everything_below(tmp_path)
        done = heed(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert first.startswith(what)
        assert second.startswith("hint: ")
        assert hint in second
        assert everything_below(tmp_path) == before


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[StageSettings], object]], None]]:
    """Put a `run` of the test's own in place of `heed.stages.sft`; leaves logging and signals as they were."""
    handler, log = signal.getsignal(signal.SIGTERM), logging.getLogger("heed")
    kept = (log.handlers, log.propagate, log.level)

    def replace(run: Callable[[StageSettings], object]) -> None:
        module = types.ModuleType("heed.stages.sft")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "heed.stages.sft", module)

    with monkeypatch.context() as patch:
        for name in cli.QUIET:
            patch.delenv(name, raising=False)
        yield replace
        for name in cli.QUIET:
            os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, handler)
    log.handlers, log.propagate, log.level = kept


SFT = ["sft", "--model", "m", "--output", "o"]


class TestRunning:
    def test_the_stage_gets_checked_settings_and_quiet_libraries(self, stage: Callable[..., None]) -> None:
        seen = []
        stage(lambda settings: seen.append((settings.model, os.environ["TRANSFORMERS_VERBOSITY"])))
        assert cli.main([*SFT, "--seed", "3"]) == 0
        assert seen == [("m", "error")]

    def test_log_lines_are_plain(self, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
        stage(lambda settings: logging.getLogger("heed").info("read %d rows", 7))
        cli.main(SFT)
        assert capsys.readouterr().err == "read 7 rows\n"

    def test_what_a_person_can_mend_is_exit_2(
        self, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(settings: StageSettings) -> None:
            raise DataError("rows.jsonl:3", "no `prompt`", "name it with --data.columns")

        stage(run)
        assert cli.main(SFT) == 2
        assert capsys.readouterr().err == "rows.jsonl:3: no `prompt`\nhint: name it with --data.columns\n"

    def test_ctrl_c_is_exit_130_with_a_sentence(
        self, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(settings: StageSettings) -> None:
            raise KeyboardInterrupt

        stage(run)
        assert cli.main(SFT) == 130
        assert capsys.readouterr().err.count("\n") == 1

    def test_a_bug_keeps_its_traceback(self, stage: Callable[..., None]) -> None:
        def run(settings: StageSettings) -> None:
            raise ValueError("a bug")

        stage(run)
        with pytest.raises(ValueError, match="a bug"):
            cli.main(SFT)

    def test_sigterm_leaves_through_the_context_managers_with_143(self, tmp_path: Path) -> None:
        code = (
            "import sys, time, types, heed.cli\n"
            "module = types.ModuleType('heed.stages.sft')\n"
            "def run(settings):\n"
            "    try:\n"
            "        print('ready', flush=True)\n"
            "        time.sleep(60)\n"
            "    finally:\n"
            "        print('closed', flush=True)\n"
            "module.run = run\n"
            "sys.modules['heed.stages.sft'] = module\n"
            f"sys.exit(heed.cli.main({SFT}))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.terminate()
        assert process.stdout.readline() == "closed\n"
        assert process.wait(timeout=30) == 143
