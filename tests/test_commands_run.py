"""The commands of README.md and of the pages beside it, executed as they stand, and what they leave looked at.

The words are the document's; settings that make a command short come after them. What `--model gpt2` names is here a
directory with a small random model, so that nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from heed import cli
from heed.evaluation.judge import Judge
from heed.models.roles import Shelf
from heed.training.loop import Loop

ROOT = Path(__file__).parents[1]
DRAWN = "--sampling.max_new_tokens 8"
SHORT = {
    "sft": "--epochs 1 --batch 8 --lora.rank 4 --completions 4 --completion_tokens 8 --few_shot 0 --evaluations 1",
    "sample": DRAWN,
    "reward": f"--batch 8 --normalise_prompts 8 --max_tokens 100 --evaluations 1 {DRAWN}",
    "ppo": f"--steps 3 --batch 8 --minibatch 8 --critic_warmup 1 --evaluations 2 --validation_share 0.2 {DRAWN}",
    "evaluate": DRAWN,
    "pretrain": "--layers 1 --width 16 --heads 2 --context 32 --sequence 16 --vocabulary 300 --batch 32",
}
"""Settings by command that change how long it takes, and nothing else of what it shows."""
CODES = {"doctor": {0, 3, 4}}  # three steps of a random model are not healthy, and need not be
BY_A_PERSON = {
    "label": "tests/labeling/test_label_command.py",
    "loop": "tests/flows/test_loop.py",
    "watch": "tests/report/test_watch.py",
}
"""Commands that serve until Ctrl-C, and the tests that run them."""


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def block(document: str, heading: str) -> list[str]:
    """The commands of the first indented block after a heading of a document, without their remarks."""
    text = (ROOT / document).read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    first = re.search(r"(^ {4}heed .*\n)+", text, re.MULTILINE)
    assert first, heading
    return [line.strip().partition("  ")[0].partition(" #")[0] for line in first[0].splitlines()]


STAGES = block("README.md", "## The stages")


def execute(command: str, typed: str = "", short: bool = True) -> Said:
    """Run a command in this process, with what is typed into it."""
    words = shlex.split(command)
    assert words.pop(0) == "heed"
    words += shlex.split(SHORT.get(words[0], "")) if short else []
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch("sys.stdin", io.StringIO(typed)):
        try:
            code = cli.main(words)
        except SystemExit as stopped:
            code = int(str(stopped.code))
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def chain(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Said]]:
    """All commands of "The stages", one after another in one directory, which stays the working directory."""
    place = tmp_path_factory.mktemp("documents")
    with chdir(place):
        lay_out(tiny_directory)
        said: dict[str, Said] = {}
        for command in STAGES:
            name = command.split()[1]
            if name == "reward":
                rank()
            if name == "resume":
                stop_ppo()
            if name not in BY_A_PERSON:
                said[command] = execute(command, "hello\n/quit\n", short=name != "resume")
        yield said


def lay_out(tiny: Path) -> None:
    """The files that the commands name."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
                       eos_token_id=0, pad_token_id=1, initializer_range=0.3)  # fmt: skip
    GPT2LMHeadModel(shape).save_pretrained("gpt2")
    tokenizer.save_pretrained("gpt2")
    asked = [f"Is {i} even?" for i in range(40)]
    rows = {
        "demonstrations": [{"prompt": words, "response": "no yes".split()[i % 2]} for i, words in enumerate(asked)],
        "prompts": [{"prompt": words} for words in asked],
        "held-out": [{"prompt": f"{words} Say."} for words in asked[:12]],
        "held-out-rankings": [{"prompt": f"{words} Say.", "chosen": "yes", "rejected": "ab"} for words in asked[:12]],
        "dump": [example() for _ in range(12)],
    }
    for name, lines in rows.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    Path("corpus.txt").write_text("<|endoftext|>".join(f"{words} {i % 2}" for i, words in enumerate(asked * 20)))
    trained = next(command for command in STAGES if command.startswith("heed ppo"))
    words = shlex.split(f"{trained} {SHORT['ppo']}")[2:]
    recipe: dict[str, object] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        group, _, inner = name[2:].rpartition(".")
        (recipe.setdefault(group, {}) if group else recipe)[inner] = yaml.safe_load(value)  # type: ignore[index]
    Path("ppo.yaml").write_text(yaml.safe_dump({**recipe, "output": "runs/asked"}))


def example() -> dict[str, object]:
    """The row that docs/negative-kl.md shows."""
    page = (ROOT / "docs/negative-kl.md").read_text(encoding="utf-8")
    row: dict[str, object] = json.loads(page.split("```json\n")[1].split("\n")[0])
    return row


def rank() -> None:
    """What the labeling page leaves: the candidates in some order."""
    rows = [json.loads(line) for line in Path("runs/candidates/candidates.jsonl").read_text().splitlines()]
    ranked = [{**row, "ranks": list(range(1, len(row["responses"]) + 1))} for row in rows]
    Path("rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked))


def stop_ppo() -> None:
    """A run to go on with: the same PPO again, stopped in its second step."""
    record = Loop.record

    def recorded(self: Loop, *arguments: object, **options: object) -> None:
        record(self, *arguments, **options)  # type: ignore[arg-type]
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    again = next(command for command in STAGES if command.startswith("heed ppo"))
    with mock.patch.object(Loop, "record", recorded):
        assert execute(f"{again} --overwrite true").code == 143


def of(chain: dict[str, Said], words: str) -> Said:
    return next(said for command, said in chain.items() if f"{command} ".startswith(f"heed {words} "))


@pytest.mark.parametrize("command", STAGES)
def test_a_command_of_the_readme_does_what_it_says(command: str, chain: dict[str, Said]) -> None:
    name = command.split()[1]
    if name in BY_A_PERSON:
        assert (ROOT / BY_A_PERSON[name]).exists()
        return
    said = chain[command]
    assert said.code in CODES.get(name, {0}), said.err
    assert "Traceback" not in said.err
    if "--output" in command:
        output = Path(command.split("--output ")[1])
        assert {"config.yaml", "run.json", "metrics.jsonl", "report.html"} <= {path.name for path in output.iterdir()}
        assert f"wrote  {output}" in said.err


def test_what_the_stages_show(chain: dict[str, Said]) -> None:
    assert "held-out loss" in of(chain, "sft").out
    assert len(Path("runs/candidates/candidates.jsonl").read_text().splitlines()) == 40
    for words in ("reward", "evaluate-reward"):
        assert re.search(r"accuracy.*│ (0\.\d+|0|1) ", of(chain, words).out), of(chain, words).out
    assert "held-out score, difference" in of(chain, "ppo").out
    first = json.loads(Path("runs/ppo/metrics.jsonl").read_text().splitlines()[0])
    assert first["kl/exact"] == 0


def test_evaluate_gives_scores_and_a_win_rate(chain: dict[str, Said]) -> None:
    said, report = of(chain, "evaluate"), json.loads(Path("runs/report/report.json").read_text())
    assert report["judge"] == "reward"
    found = json.dumps(report)
    assert '"win_rate"' in found
    assert "win" in said.out
    assert "score" in said.out


def test_chat_answers_with_both(chain: dict[str, Said]) -> None:
    said = of(chain, "chat")
    assert re.search(r"^sft> ", said.out, re.MULTILINE)
    assert re.search(r"^ppo> ", said.out, re.MULTILINE)


def test_the_doctor_says_what_it_tested(chain: dict[str, Said]) -> None:
    for words in ("doctor ppo.yaml", "doctor runs/ppo", "doctor --rollouts"):
        said = of(chain, words)
        assert re.search(r"\bT\d+\b", said.out), words
        assert re.search("passed|not tested", said.out), words
    assert not Path("runs/asked").exists()  # in memory


def test_a_stopped_run_went_on_and_its_chain_is_told(chain: dict[str, Said]) -> None:
    assert "going on after step 2" in of(chain, "resume").err
    assert json.loads(Path("runs/ppo/run.json").read_text())["finished"]
    told = of(chain, "lineage").out
    for name in ("demonstrations.jsonl, 39 rows", "rankings.jsonl, ", "prompts.jsonl, "):
        assert name.partition(",")[0] in told
    assert "(sft)" in told
    assert "(reward)" in told


def test_every_next_line_is_a_command(chain: dict[str, Said]) -> None:
    lines = [line for said in chain.values() for line in said.err.splitlines() if line.startswith("next ")]
    assert len(lines) > 6
    for line in lines:
        if page := re.search("file://(.*)", line):
            assert Path(page[1]).exists()
            continue
        heed, name, *words = shlex.split(line)[1:]
        assert (heed, name in cli.COMMANDS) == ("heed", True)
        command = cli.COMMANDS[name]
        cli.config.load(cli.settings_of(command), words, positional=command.positional)


def test_the_code_of_every_card_runs(chain: dict[str, Said]) -> None:
    cards = sorted(Path("runs").rglob("README.md"))
    kinds = {str(path.parent) for path in cards}
    assert kinds >= {
        "runs/sft/checkpoint",
        "runs/reward/checkpoint",
        "runs/ppo/checkpoint",
        "runs/ppo/checkpoint/value",
    }
    for path in cards:
        code = "\n".join(re.findall("```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace("PATH", str(path.parent)), {})
        assert ("pipeline" in code) == (path.parent.name != "value"), path
        assert printed.getvalue().strip() or "decode" in code, path  # a policy may say nothing but spaces
        if path.parent.parent.name == "reward":
            judge = Judge.load(Shelf(lambda _: torch.float32, torch.device("cpu")), "runs/reward", "judge")
            raw, score, again = map(float, printed.getvalue().split())  # the last one by the pipeline
            assert score == pytest.approx(judge.score("Hi", "Hello.")[0], abs=1e-4)
            assert again == pytest.approx(raw, abs=1e-4)


def test_the_recipe_of_the_readme(chain: dict[str, Said]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    Path("recipe.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    Path("data").mkdir(exist_ok=True)
    Path("data/demonstrations.jsonl").write_text(Path("demonstrations.jsonl").read_text())
    said = execute("heed sft recipe.yaml --set.data data --output runs/by-recipe")
    assert said.code == 0, said.err
    assert yaml.safe_load(Path("runs/by-recipe/config.yaml").read_text())["data"]["path"] == "data/demonstrations.jsonl"
    assert execute("heed sft recipe.yaml").code == 2


def test_the_commands_in_the_readmes_sentences(chain: dict[str, Said]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (pretrain,) = re.findall(r"`(heed pretrain [^`]+)`", text)
    said = execute(pretrain)
    assert said.code == 0, said.err
    assert "nats per token" in said.out
    (card,) = Path("runs/base/checkpoint").glob("README.md")
    exec(card.read_text().split("```python\n")[1].split("```")[0].replace("PATH", str(card.parent)), {})
    for command in re.findall(r"`(heed [a-z ]*--help)`", text):
        shown = execute(command, short=False)
        assert shown.code == 0
        assert "heed" in shown.out


def test_the_commands_of_the_other_pages(chain: dict[str, Said]) -> None:
    Path("rollouts.jsonl").write_text(Path("dump.jsonl").read_text())
    page = (ROOT / "docs/negative-kl.md").read_text(encoding="utf-8")
    alone, with_models = re.findall(r"^ {4}(heed doctor --rollouts rollouts.jsonl.*)$", page, re.MULTILINE)
    assert execute(alone).code in CODES["doctor"]
    few = Path("rollouts.jsonl").read_text().replace("50256", "0").replace("3290", "90").replace("464", "64")
    Path("rollouts.jsonl").write_text(
        few.replace("318", "31").replace("257", "57").replace('"pad_id": 220', '"pad_id": 1')
    )
    said = execute(with_models.replace("POLICY", "runs/ppo").replace("SFT", "runs/sft"))
    assert said.code in CODES["doctor"], said.err
    assert json.loads(Path("findings.json").read_text())["findings"]
    one, _, several, _ = block("docs/report.md", "# The page of a run")
    assert execute(one).code == 0
    for name in ("a", "b"):
        if not Path("runs", name).exists():
            Path("runs", name).symlink_to("ppo")
    assert execute(several).code == 0
    assert Path("runs/comparison.html").exists()
    longer = next(
        line for line in block("docs/resuming.md", "## What may change when a run goes on") if "--steps" in line
    )
    stop_ppo()
    assert execute(longer.replace("200", "4"), short=False).code == 0
    assert len(Path("runs/ppo/metrics.jsonl").read_text().splitlines()) == 4
