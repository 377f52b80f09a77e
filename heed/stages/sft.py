"""Step 1: demonstrations → a model that answers. InstructGPT (arXiv 2203.02155), section 3.5, appendix C.1 and C.3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from heed import config
from heed.data.batch import sft_batch
from heed.data.encode import EncodedDemonstration
from heed.data.template import Template
from heed.errors import ConfigError
from heed.imitation import completions, response_loss
from heed.imitation.examples import Lessons, Records, counted, draw_batches, encode, read_mixed_text, read_splits
from heed.imitation.response_loss import ResponseLoss
from heed.models.card import Card, made_with, write_card
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.load import load_tokenizer
from heed.models.policy import Policy, save_policy
from heed.models.publish import write_generation_files
from heed.models.roles import Shelf, trained_copy
from heed.rows.microbatches import microbatches
from heed.rows.threads import SERIAL, RowThreads
from heed.settings.sft import SFTSettings
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.figures import print_figures
from heed.training.metrics import Progress, print_completions
from heed.training.optimizer import learning_rate_factor, make_optimizer, require_finite, set_learning_rate
from heed.training.optimizer import step as optimizer_step
from heed.training.order import evenly_spaced
from heed.training.run_dir import RunDir

SHOWN = ("loss/train", "loss/validation", "grad_norm")
PRINTED = 5  # rows of the printed table


def run(settings: SFTSettings) -> Path:
    """Fine-tune a base model on demonstrations; compare its loss and its answers with the base model's."""
    check(settings)
    tokenizer = load_tokenizer(open_checkpoint(settings.model, "policy").path)
    template = Template.named(settings.template, tokenizer)
    records = read_splits(settings, template, tokenizer)
    documents = read_mixed_text(records.training, settings)
    device = pick_device(settings.device)
    seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        dtype = "float32" if settings.lora.rank == 0 else settings.dtype  # what is trained whole is not rounded first
        base = Shelf(partial(pick_dtype, dtype, device), device).policy(settings.model, "base")
        records, lessons = encode(records, documents, base, template, settings)
        asked = completions.ask(records, base, template, settings)
        policy = trained_copy(base, "sft", settings.lora)
        before = response_loss.measure(policy, lessons.held_out, settings.microbatch_tokens)
        after = train(policy, lessons, before, settings, run_dir)
        found = {"demonstrations": counts(records, lessons)}
        found |= {"validation_loss": response_loss.figures(before, after, settings.seed)}
        found |= compare_answers(asked, base, policy, settings, run_dir)
        run_dir.save_checkpoint(partial(save, policy, base, template, settings, headline(found), run_dir.path))
        run_dir.write_json("report.json", found)
    print_figures(headline(found), f"{len(lessons.held_out):,} held-out demonstrations")
    run_dir.finished(f"heed reward --model {settings.output} --data RANKINGS.jsonl --output runs/reward")
    return run_dir.path


def check(settings: SFTSettings) -> None:
    """What settings alone can tell, before a file is opened."""
    if not settings.data.path:
        raise ConfigError("data", "no demonstrations are named", "give a file of demonstrations: --data FILE")
    if bool(settings.pretrain_text) != bool(settings.pretrain_share):
        told = "pretrain_text is empty" if settings.pretrain_share else "pretrain_share is 0"
        raise ConfigError("pretrain_share", f"{told}, so no text is mixed in", "set both, or neither")


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def train(
    policy: Policy, lessons: Lessons, before: ResponseLoss, settings: SFTSettings, run_dir: RunDir
) -> ResponseLoss:
    """One optimiser step for each batch; held-out demonstrations are scored `evaluations` times, after the last step
    too, which is what is returned."""
    batches = draw_batches(lessons, settings)
    due, measured = evenly_spaced(settings.evaluations, len(batches)), before
    run_dir.record(0, {"loss/validation": before.mean})
    with policy.trainable() as parameters, Progress("sft", len(batches)) as progress:
        optimizer = make_optimizer({"policy": parameters.values()}, settings.optimizer)
        threads = RowThreads.for_model(policy.trunk.model, serial=settings.lora.dropout > 0)
        for step, parts in enumerate(batches, start=1):
            started = time.perf_counter()
            factor = learning_rate_factor(step, len(batches), settings.optimizer)
            set_learning_rate(optimizer, factor)
            metrics = backpropagate(policy, parts, settings, threads)
            metrics["grad_norm"] = optimizer_step(optimizer, parameters.values(), settings.optimizer.max_grad_norm)
            metrics["learning_rate"] = settings.optimizer.learning_rate * factor
            seconds = time.perf_counter() - started
            if step in due:
                measured = response_loss.measure(policy, lessons.held_out, settings.microbatch_tokens)
                metrics["loss/validation"] = measured.mean
            run_dir.record(step, metrics)
            read = sum(len(lesson.tokens) for part in parts.values() for lesson in part)
            run_dir.time(step, {"time/step": seconds, "perf/tokens_per_second": read / seconds})
            progress.update(step, {name: metrics[name] for name in SHOWN if name in metrics})
    return measured


def backpropagate(
    policy: Policy, parts: dict[str, list[EncodedDemonstration]], settings: SFTSettings, threads: RowThreads = SERIAL
) -> dict[str, float]:
    """Add up the gradient of one step's loss; returns the loss of each part, in nats per token.

    L(θ) = −Σ log π_θ(token) / N      over the N tokens of the step that count: responses with their EOS, text
    """
    pad, device, tokens = policy.trunk.tokenizer.pad_token_id, policy.trunk.device, sum(map(counted, parts.values()))

    def loss(lessons: list[EncodedDemonstration]) -> tuple[Tensor, float]:
        batch = sft_batch(lessons, pad)
        surprise = -policy.flat_logprobs(
            batch.tokens.to(device), batch.mask.to(device), batch.response_mask.to(device)
        ).sum()
        return surprise / tokens, require_finite(float(surprise.detach()), "the loss")

    losses, trained = {}, list(policy.parameters().values())
    for name, lessons in parts.items():
        groups = microbatches([len(lesson.tokens) for lesson in lessons], settings.microbatch_tokens, device.type)
        pieces = [partial(loss, [lessons[i] for i in rows]) for rows in threads.share(groups)]
        with policy.active(), adapter_dropout(policy, settings.lora.dropout):
            nats = sum(threads.backward(pieces, trained))
        if lessons:
            losses[f"loss/{name}"] = nats / counted(lessons)
    return losses


@contextmanager
def adapter_dropout(policy: Policy, probability: float) -> Iterator[None]:
    """Dropout on the adapter's input inside the block only: it is the one dropout that a loaded model has left."""
    policy.trunk.model.train(probability > 0)
    try:
        yield
    finally:
        policy.trunk.model.eval()


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts(records: Records, lessons: Lessons) -> dict[str, Any]:
    """How many demonstrations there were on each side, and how many were dropped for their length."""
    return {"training": len(records.training), "held_out": len(records.held_out), "too_long": lessons.too_long}


def compare_answers(
    asked: completions.Asked, base: Policy, policy: Policy, settings: SFTSettings, run_dir: RunDir
) -> dict[str, Any]:
    """Let base, few-shot base and SFT model answer the same prompts; writes `samples.jsonl` and prints a few rows."""
    if not asked.prompts:
        return {}
    answered = {"base": completions.complete(base, asked.prompts, settings)}
    if asked.after_shots:
        answered["few_shot"] = completions.complete(base, asked.after_shots, settings)
    answered["sft"] = completions.complete(policy, asked.prompts, settings)
    run_dir.samples(run_dir.step, completions.rows(asked, answered))
    shown = completions.table(asked, answered, PRINTED)
    print_completions(shown, f"the first {len(shown)} of {len(asked.prompts)} prompts")
    return completions.figures(asked, answered, settings.seed)


def headline(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures that are printed and stand in the model card."""
    named = {f"held-out loss, {name}": figure for name, figure in found["validation_loss"].items()}
    for key, title in (("bleu", "BLEU"), ("chrf", "chrF"), ("eos_rate", "end-of-text rate")):
        named |= {f"{title}, {name}": figure for name, figure in found.get(key, {}).items()}
    return named


def save(
    policy: Policy,
    base: Policy,
    template: Template,
    settings: SFTSettings,
    figures: dict[str, dict[str, Any]],
    run_path: Path,
    path: Path,
) -> None:
    """A stock directory, what stock libraries do not record in `heed.json`, and the model card."""
    save_policy(policy, path)
    write_generation_files(path, policy.trunk.tokenizer, template.chat_template, settings.completion_tokens)
    about = {
        "kind": "policy",
        "stage": "sft",
        "template": {"name": template.name, "hash": template.hash},
        "base": base.trunk.name,
        "base_hash": base.trunk.hash,
    }
    write_metadata(path, about)
    sentence = "A language model that answers, fine-tuned on demonstrations (step 1 of InstructGPT)."
    title, made = Path(settings.output).name, made_with(run_path)
    write_card(
        path, Card(title, sentence, base.trunk.name, policy.adapter is not None, figures, config.dump(settings), made)
    )
