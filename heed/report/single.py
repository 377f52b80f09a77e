"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence

from heed.report.blocks import Block, Page, Section, Table
from heed.report.differences import datasets, settings_hash, settings_tables
from heed.report.health import notes
from heed.report.read import Run, number
from heed.report.samples import samples
from heed.report.sections import sections
from heed.report.words import DASH, duration, size

SENTENCES = {
    "pretrain": "Pretraining: text → a small base model",
    "sft": "Supervised fine-tuning: demonstrations → a model that answers",
    "sample": "Sampling: prompts → several responses each",
    "reward": "Reward model: rankings → a score",
    "ppo": "PPO: prompts and a reward model → a better policy",
    "evaluate": "Evaluation: checkpoints side by side on held-out prompts",
    "evaluate-reward": "A reward model on held-out comparisons",
    "score": "A reward model's scores, and the pairs that it gets wrong",
    "best-of-n": "Best of n: draw n answers, keep the best",
    "run": "A run",
}
FILES = {
    "config.yaml": "every setting; a recipe that repeats the run",
    "run.json": "command, seed, versions, hardware",
    "metrics.jsonl": "a row a step; the charts are drawn from it",
    "timings.jsonl": "seconds and rates of each step",
    "samples.jsonl": "prompts and answers",
    "candidates.jsonl": "prompts with several answers each, to be ranked",
    "scores.jsonl": "every response with its score",
    "wrong.jsonl": "pairs that the reward model gets wrong, to be ranked again",
    "findings.jsonl": "what the doctor found, each time",
    "report.json": "the figures at the end, with their intervals",
    "checkpoint/": "the model",
}


def page(run: Run, live: bool = False) -> Page:
    """Header, health, charts, samples, settings, files."""
    parts = [*sections(run), *sample_section(run), settings_section(run), files_section(run)]
    return Page(run.name, SENTENCES[run.stage], facts(run), notes(run, live), parts)


def facts(run: Run) -> list[tuple[str, str]]:
    """What the numbers depend on."""
    host, versions = run.about.get("host", {}), run.about.get("versions", {})
    hardware = ", ".join(str(host[key]) for key in ("accelerator", "processor", "system") if host.get(key))
    threads = number(host.get("threads"))
    told = [
        ("run", run.name),
        ("started", str(run.about.get("started", DASH)).replace("T", " ").replace("+00:00", " UTC")),
        ("wall time", duration(run.seconds)),
        ("seed", str(run.about.get("seed", run.settings.get("seed", DASH)))),
        ("data", datasets(run)),
        (
            "hardware",
            f"{hardware or DASH}{f', {threads:.0f} thread' if threads else ''}{'s' if threads and threads > 1 else ''}",
        ),
        ("computed on", _computed_on(run)),
        (
            "commit",
            str(run.about.get("commit") or DASH)[:12] + ("-dirty" if "dirty" in str(run.about.get("commit")) else ""),
        ),
        ("settings hash", settings_hash(run) if run.settings else DASH),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version) or DASH),
        ("command", str(run.about.get("command", DASH))),
    ]
    told = [(name, value) for name, value in told if value != DASH]
    return [*told, *_data_hashes(run)]


def sample_section(run: Run, gold: Sequence[object] = (), prefix: str = "") -> list[Section]:
    """The samples of a run, if it has any."""
    found = samples(run, [row for row in gold if isinstance(row, dict)])
    return [Section(f"{prefix}samples", "Samples", [found])] if found else []


def settings_section(run: Run, prefix: str = "") -> Section:
    """Every setting."""
    return Section(f"{prefix}settings", "Settings", settings_tables(run) if run.settings else [])


def files_section(run: Run, prefix: str = "") -> Section:
    """What the directory holds."""
    rows = [(file.name, size(file.size), FILES.get(file.name, "")) for file in run.files]
    blocks: list[Block] = [Table("In this directory", ("file", "size", "what it holds"), rows)]
    return Section(f"{prefix}files", "Files", blocks)


def _computed_on(run: Run) -> str:
    """Device, dtype, and how many weights there are and are trained."""
    weights, trained = number(run.about.get("parameters")), number(run.about.get("trained_parameters"))
    told = [str(run.about[key]) for key in ("device", "dtype") if run.about.get(key)]
    told += [f"{weights:,.0f} weights"] if weights else []
    told += [f"{trained:,.0f} of them trained"] if trained else []
    return ", ".join(told) or DASH


def _data_hashes(run: Run) -> list[tuple[str, str]]:
    """One fact: each file of data with twelve digits of its SHA-256."""
    found = run.about.get("data")
    told = found.values() if isinstance(found, dict) else ()
    files = [f"{one['name']} {str(one['sha256'])[:12]}" for one in told if isinstance(one, dict) and "sha256" in one]
    return [("data hashes", ", ".join(dict.fromkeys(files)))] if files else []
