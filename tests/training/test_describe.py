from __future__ import annotations

import hashlib
from pathlib import Path

from heed.settings.ppo import PPOSettings
from heed.training.describe import data_hashes


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_file_of_data_is_hashed_by_its_setting(tmp_path: Path) -> None:
    for name in ("prompts.jsonl", "a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    settings = PPOSettings(
        model="m", output="o", prompts={"path": str(tmp_path / "prompts.jsonl")},
        validation_prompts={"path": "owner/on-the-hub"}, ptx={"text": (str(tmp_path / "*.txt"),)},
    )  # fmt: skip
    assert data_hashes(settings) == {
        "prompts": {"name": "prompts.jsonl", "sha256": digest("prompts.jsonl")},
        "ptx.text": {"name": "a.txt, b.txt", "sha256": digest("a.txtb.txt")},
    }
