"""One round of `heed loop`: labels → reward model → PPO → new tasks, each step in a directory or file of its own.

What a step has left is not made again, so that a round goes on wherever it was stopped.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from heed.data.sources import read_prompts
from heed.errors import ConfigError
from heed.flows.going_on import Step, go
from heed.labeling import exports
from heed.labeling.assignment import Policy
from heed.labeling.export_rows import Export
from heed.labeling.files import HELD_OUT, RANKINGS
from heed.labeling.queue import add
from heed.labeling.store import reading, tasks
from heed.labeling.store.database import Database
from heed.records import write_jsonl
from heed.settings.common import DataSettings, StageSettings
from heed.settings.loop import LoopSettings
from heed.settings.reward import RewardSettings, ScoreSettings
from heed.stages import ppo, reward, sample, score
from heed.training.claim import described
from heed.training.files import write_json, write_text

ABOUT, DONE, CHOSEN, CORRECTIONS = f"{RANKINGS}.about.json", "round.json", "chosen.jsonl", "corrections.jsonl"
FEWEST = 8  # ranked prompts: two halves of them, and some that are held out
HALVES = "first", "second"
Row = dict[str, Any]
S = TypeVar("S", bound=StageSettings)


@dataclass(frozen=True)
class Round:
    """A round by its number, from 1. `model` is the SFT model, `start` the policy that PPO begins from."""

    settings: LoopSettings
    database: Database
    root: Path
    number: int
    model: str
    start: str

    @property
    def path(self) -> Path:
        """Its directory."""
        return directory(self.root, self.number)

    @property
    def policy(self) -> str:
        """The run that holds the policy it makes."""
        return self.run("ppo")

    def run(self, name: str) -> str:
        """The run directory of one of its stages."""
        return str(self.path / name)

    def steps(self) -> list[Step]:
        """What happens, in order."""
        wanted, cost = self.settings, self.cost
        found = [
            Step("The rankings so far are written down.", self.write_rankings, 0),
            Step("A reward model learns what people prefer (reward).",
                 partial(go, reward.run, self.reward_settings()), cost(8, "reward")),
        ]  # fmt: skip
        if (self.path / HELD_OUT).exists() or self.held_out_labels():
            found += [Step("Do held-out labelers prefer what it prefers? (score)",
                           self.score_held_out, cost(2, "scores-held-out"))]  # fmt: skip
        found += [Step("PPO changes the policy towards answers that it scores higher (ppo).",
                       self.improve, cost(108, "ppo"))]  # fmt: skip
        if wanted.tasks:
            found += [
                Step("Two more reward models learn from half of the labels each (reward).",
                     self.learn_halves, cost(8, "reward-first", "reward-second")),
                Step("The new policy answers new prompts several times (sample).", self.answer, cost(2, "sample")),
                Step("Where do the two differ most? (score)", self.choose, cost(2, "scores-first", "scores-second")),
            ]  # fmt: skip
        if wanted.corrections:
            found += [Step("Which pairs does the reward model get wrong? (score)", self.correct, cost(3, "scores"))]
        return [*found, Step("New tasks are queued for the people who label.", self.queue, 0)]

    def cost(self, usual: float, *runs: str) -> float:
        """How many seconds these runs took in the round before; `usual` (a round of the pocket world) in the first."""
        before = directory(self.root, self.number - 1)
        known = [float(described(before / name).get("seconds") or 0) for name in runs]
        return sum(known) if all(known) else usual

    # ── labels → policy ──────────────────────────────────────────────────────────────────────────────────────────────

    def write_rankings(self) -> None:
        """The labels of this round: later ones belong to the next. The training file's own note comes last."""
        if (self.path / ABOUT).exists():
            return
        with self.database.read() as connection:
            counted = reading.how_many(connection)[1]
        content, about = exports.made(self.database, Export())
        asked = {json.dumps(json.loads(line)["prompt"]) for line in content.splitlines()}
        if len(asked) < FEWEST:
            told = f"{len(asked)} prompts are ranked, and a round needs {FEWEST}"
            raise ConfigError(self.settings.run, told, f"rank some more: heed label {self.settings.run}")
        if self.held_out_labels():
            exports.write(self.database, Export(group="held_out"), self.path / HELD_OUT)
        exports.place(self.path / RANKINGS, content, {**about, "counted": counted})

    def held_out_labels(self) -> bool:
        """Whether held-out labelers have ranked something."""
        with self.database.read() as connection:
            return any(row.labeler_group == "held_out" for row in reading.all_rankings(connection))

    def reward_settings(self, half: str = "all") -> RewardSettings:
        """The reward model of the round, or of half of the labels, whose normalisation says little and costs little."""
        own: dict[str, object] = {"model": self.model, "data": DataSettings(path=str(self.path / RANKINGS))}
        if half != "all":
            own |= {"half": half, "demonstrations": DataSettings(), "normalise_prompts": 32, "evaluations": 1}
        return self._with(self.settings.reward, "reward" if half == "all" else f"reward-{half}", **own)

    def improve(self) -> None:
        """PPO from the policy that the settings name, against the round's reward model."""
        go(ppo.run, self._with(self.settings.ppo, "ppo", model=self.start, reward_model=self.run("reward")))

    def score_held_out(self) -> None:
        """The reward model on rankings by people whom it learned nothing from."""
        if (self.path / HELD_OUT).exists():  # or else they began while the round went on, and the next one has them
            go(score.run, self.score_settings("scores-held-out", "reward", HELD_OUT))

    # ── policy → tasks ───────────────────────────────────────────────────────────────────────────────────────────────

    def learn_halves(self) -> None:
        """Reward models of two disjoint halves of the labels."""
        for half in HALVES:
            go(reward.run, self.reward_settings(half))

    def answer(self) -> None:
        """Candidates by the new policy, for prompts that nobody was asked about yet."""
        prompts = self.path / "prompts.jsonl"
        if not prompts.exists():
            write_jsonl(prompts, self.fresh_prompts())
        go(
            sample.run,
            self._with(self.settings.sample, "sample", model=self.policy, prompts=DataSettings(path=str(prompts))),
        )

    def fresh_prompts(self) -> list[Any]:
        """As many prompts as are answered, in random order, first those that are no task yet."""
        with self.database.read() as connection:
            asked = {task.prompt for task in tasks.read_all(connection)}
        wanted = self.settings.sample.prompts if self.settings.sample.prompts.path else self.settings.ppo.prompts
        found = read_prompts(wanted, self.settings.seed)
        random.Random(f"{self.settings.seed} {self.number}").shuffle(found)
        found.sort(key=lambda prompt: prompt.prompt in asked)
        return found[: math.ceil(self.settings.pool * self.settings.tasks)]

    def choose(self) -> None:
        """The sets of answers about which the halves differ most."""
        for half in HALVES:
            go(score.run, self.score_settings(f"scores-{half}", f"reward-{half}", "sample/candidates.jsonl"))
        first, second = (rows_of(self.path / f"scores-{half}" / score.SCORES) for half in HALVES)
        told = [
            {**row, "disagreement": disagreement(row["scores"], other["scores"]), "model": self.policy}
            for row, other in zip(first, second, strict=True)
            if len(set(row["responses"])) > 1
        ]
        told.sort(key=lambda row: -row["disagreement"])
        write_rows(self.path / CHOSEN, told[: self.settings.tasks])

    def correct(self) -> None:
        """The pairs of the labels that the reward model gets most wrong."""
        go(score.run, self.score_settings("scores", "reward", RANKINGS))
        wrong = rows_of(self.path / "scores" / score.WRONG)
        write_rows(self.path / CORRECTIONS, wrong[: self.settings.corrections])

    def queue(self) -> None:
        """New tasks, once each, whoever stopped whom in between; then the round is done."""
        wanted = self.settings
        rows = {name: rows_of(self.path / name) for name in (CHOSEN, CORRECTIONS) if (self.path / name).exists()}
        policy = Policy(mode=wanted.mode, reviewers=wanted.reviewers, seed=wanted.seed)
        add(self.database, [self.path / name for name, some in rows.items() if some], policy)
        learned = read_json(self.path / "reward" / "report.json")
        about = {
            "round": self.number,
            "rankings": read_json(self.path / ABOUT),
            "accuracy": learned["accuracy"],
            "score": read_json(self.path / "ppo" / "report.json").get("score"),
            "queued": {Path(name).stem: len(some) for name, some in rows.items()},
            "policy": self.policy,
        }
        write_json(self.path / DONE, about)

    # ── settings of stages ───────────────────────────────────────────────────────────────────────────────────────────

    def score_settings(self, name: str, model: str, data: str) -> ScoreSettings:
        """A reward model of the round on a file of the round."""
        base, own = ScoreSettings(model=self.run(model), output=""), self.settings.reward
        limits = {"max_tokens": own.max_tokens, "microbatch_tokens": own.microbatch_tokens}
        return self._with(base, name, data=DataSettings(path=str(self.path / data)), **limits)

    def _with(self, settings: S, name: str, **own: object) -> S:
        """A stage's settings in its place in the round."""
        shared = {"output": self.run(name), "seed": self.settings.seed + self.number - 1, "resume": True}
        return settings.model_copy(update={**shared, "device": self.settings.device, **own})


def directory(root: Path, number: int) -> Path:
    """Where a round lies."""
    return root / f"round-{number:03d}"


def disagreement(first: Sequence[float], second: Sequence[float]) -> float:
    """How much two reward models differ about K responses: the mean over pairs of |σ(a_i − a_j) − σ(b_i − b_j)|.

    0 where both are as sure of the same order, 1 where each is certain of the opposite. Scores are normalised: each
    model's unit is the spread of the SFT model's answers.
    """
    pairs = list(combinations(range(len(first)), 2))
    differences = [abs(_sigmoid(first[i] - first[j]) - _sigmoid(second[i] - second[j])) for i, j in pairs]
    return sum(differences) / len(pairs)


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def rows_of(path: Path) -> list[Row]:
    """The rows of a file that a step has left; none of an empty one."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A file of rows, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """A JSON file that a step has left."""
    return json.loads(path.read_text(encoding="utf-8"))
