"""What comes from outside: versions with a lowest end, audits that do not pass unseen, tokens that stay unsaid."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TOKEN = "hf_" + "Q7" * 17


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_range_has_a_lowest_version() -> None:
    lowest = program("oldest").lowest
    assert lowest(["a>=2.13,<3", "psycopg[binary]>=3.2.1,<4"]) == ["a==2.13", "psycopg==3.2.1"]
    for open_below in ("a<3", "a", "a~=2.0", "a>2"):
        with pytest.raises(ValueError, match="names no lowest version"):
            lowest([open_below])
    found = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "oldest.py")], capture_output=True, text=True, check=True
    )
    assert "torch==2.13" in found.stdout.splitlines()


def test_whatever_heed_imports_is_a_dependency() -> None:
    """A library that is there only because another one needs it may leave with it."""
    names = {"yaml": "pyyaml", "multipart": "python-multipart"}
    given = re.findall(r'^    "([\w-]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for file in (ROOT / "heed" / "labeling").rglob("*.py"):
        for module in re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE):
            if module not in sys.stdlib_module_names and module not in ("heed", "__future__", "pydantic_core"):
                assert names.get(module, module) in given, f"{file.name} imports {module}"


def test_an_audit_that_could_not_be_made_does_not_pass() -> None:
    verdict = program("audit").verdict
    code, told = verdict(1, "", "Traceback …\nConnectionError: no route")
    assert code == 3 and told.startswith("NOT AUDITED: ") and told.endswith("ConnectionError: no route")
    fine = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    assert verdict(0, json.dumps({"dependencies": [fine]}), "")[0] == 0
    code, told = verdict(1, json.dumps({"dependencies": [fine, bad]}), "")
    assert code == 1 and "b 2: PYSEC-1, mended in 3" in told
    code, told = verdict(0, json.dumps({"dependencies": [{"name": "c", "skip_reason": "refused"}]}), "")
    assert code == 3 and told.startswith("NOT AUDITED: ") and told.endswith("refused")


def test_a_token_is_never_written(tiny_directory: Path, tmp_path: Path) -> None:
    """Neither into a run's files nor into what is said, where it goes well and where it does not."""
    rows = [{"prompt": f"q{i}", "response": "ab"} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    secrets = {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN, "WANDB_API_KEY": TOKEN, "OPENAI_API_KEY": TOKEN}
    environment = {**os.environ, **secrets, "HF_HUB_OFFLINE": "1"}
    train = ["sft", "--model", str(tiny_directory), "--data", "rows.jsonl", "--output", "run", "--completions", "0",
             "--template", "plain"]  # fmt: skip
    said = ""
    for arguments in (train, ["env"], ["sft", "--model", "nobody/nothing", "--data", "rows.jsonl", "--output", "x"]):
        command = [sys.executable, "-m", "heed.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        said += done.stdout + done.stderr
    assert (tmp_path / "run" / "checkpoint").is_dir() and "nobody/nothing" in said
    assert TOKEN not in said
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
