"""Step 1: demonstrations → a model that answers. InstructGPT (arXiv 2203.02155), section 3.5, appendix C.1 and C.3."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from heed.data.provenance import provenance
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError
from heed.evaluation.printed import print_answers
from heed.imitation import completions, response_loss
from heed.imitation.examples import Examples, Records, draw_batches, encode, read_mixed_text, read_splits
from heed.imitation.loss import backpropagate
from heed.imitation.response_loss import ResponseLoss
from heed.models.adapter import settled
from heed.models.artefact import Artefact, TemplateUsed, check_saveable
from heed.models.card import made_with
from heed.models.checkpoint import Checkpoint, open_checkpoint, weights_hash
from heed.models.load import load_tokenizer
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy, weight_count
from heed.rows.threads import RowThreads
from heed.settings.sft import SFTSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.dry_run import heaviest_first
from heed.training.figures import print_figures
from heed.training.guards import decoded
from heed.training.loop import Loop
from heed.training.optimizer import learning_rate_factor, make_optimizer, set_learning_rate
from heed.training.optimizer import step as optimizer_step
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import DROPPED, RunDir
from heed.training.state import Same, Weights

SHOWN = ("loss/train", "loss/validation", "grad_norm")
PRINTED = 5  # rows of the printed table


def run(settings: SFTSettings) -> Path:
    """Fine-tune a base model on demonstrations; compare its loss and its answers with the base model's."""
    check(settings)
    checkpoint = open_checkpoint(settings.model, "policy")
    settings = settings.model_copy(update={"lora": settled(settings.lora, checkpoint)})
    tokenizer = load_tokenizer(checkpoint.path)
    template = Template.named(settings.template, tokenizer)
    sources = settings.data, settings.validation, settings.validation_share
    dropped = Tally()
    records = read_splits(*sources, settings.hygiene, template, tokenizer, settings.seed, dropped)
    documents = read_mixed_text(
        settings.pretrain_text, settings.pretrain_share, settings.epochs, records.training
    )  # fmt: skip
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        dropped.write(run_dir.path / DROPPED)
        dtype = "float32" if settings.lora.rank == 0 else settings.dtype  # what is trained whole is not rounded first
        base = Shelf(partial(pick_dtype, dtype, device), device, settings.recompute).policy(checkpoint, "base")
        records, examples = encode(records, documents, base, template, settings.max_tokens)
        answered = settings.completions, settings.completion_tokens, settings.few_shot
        prompts = completions.choose(records, base, template, *answered)
        policy = trained_copy(base, "sft", settings.lora)
        check_saveable(policy)
        if run_dir.dry and prompts.prompts:  # to answer, the adapter is merged into a copy of the matrices
            options = settings.completion_tokens, settings.microbatch_tokens
            run_dir.dry.afterwards = partial(completions.complete, policy, prompts.prompts, *options)
        before = response_loss.measure(policy, examples.held_out, settings.microbatch_tokens)
        after = train(policy, examples, before, generator, settings, run_dir)
        report: dict[str, Any] = {"demonstrations": counts(records, examples)}
        report |= {"validation_loss": response_loss.figures(before, after, settings.seed)}
        report |= compare_answers(prompts, base, policy, settings, run_dir)
        artefact = artefact_of(checkpoint, base, examples, template, settings, headline(report), run_dir)
        run_dir.save_checkpoint(partial(artefact.save, policy))
        run_dir.write_json("report.json", report)
        print_figures(headline(report), f"{len(examples.held_out):,} held-out demonstrations")
        run_dir.finished("heed", "sample", "--model", settings.output, "--prompts", "FILE", "--output", "runs/sample")
    return run_dir.path


def check(settings: SFTSettings) -> None:
    """What settings alone can tell, before a file is opened."""
    if not settings.data.path:
        raise ConfigError("data", "no demonstrations are named", "give a file of demonstrations: --data FILE")
    if bool(settings.pretrain_text) != bool(settings.pretrain_share):
        told = "pretrain_text is empty" if settings.pretrain_share else "pretrain_share is 0"
        raise ConfigError("pretrain_share", f"{told}, so no text is mixed in", "set both, or neither")


def train(
    policy: Policy,
    examples: Examples,
    before: ResponseLoss,
    generator: torch.Generator,
    settings: SFTSettings,
    run_dir: RunDir,
) -> ResponseLoss:
    """One optimiser step for each batch; held-out demonstrations are scored `evaluations` times, after the last step
    too, which is what is returned."""
    batches = draw_batches(examples, settings.batch, settings.epochs, settings.pretrain_share, settings.seed)
    if settings.dry_run:
        batches = heaviest_first(batches, lambda batch: [len(row.tokens) for part in batch.values() for row in part])
    threads = RowThreads.for_model(policy.trunk.model, serial=settings.lora.dropout > 0)
    measured = None
    with policy.trainable() as parameters:
        optimizer = make_optimizer({"policy": parameters.values()}, settings.optimizer)
        parts = {"policy": Weights(parameters), "optimizer": optimizer, "random": Randomness(generator)}
        data = provenance(settings.data, len(examples.training))
        parts["inputs"] = Same(trunk=weights_hash(policy.trunk.model), data=data)
        if run_dir.step == 0:
            run_dir.record(0, {"loss/validation": before.mean})
        announce(run_dir, policy.trunk.model.parameters(), parameters, threads.count)
        with Loop(run_dir, "sft", len(batches), parts, settings.save_every) as loop:
            for step in loop:
                batch = batches[step - 1]
                texts = [row.tokens for part in batch.values() for row in part]
                loop.reads(partial(decoded, policy.trunk.tokenizer, texts))
                factor = learning_rate_factor(step, len(batches), settings.optimizer)
                set_learning_rate(optimizer, factor)
                metrics = backpropagate(policy, batch, settings.lora.dropout, settings.microbatch_tokens, threads)
                metrics["grad_norm"] = optimizer_step(optimizer, parameters.values(), settings.optimizer.max_grad_norm)
                metrics["learning_rate"] = settings.optimizer.learning_rate * factor
                if loop.is_due(settings.evaluations):
                    with loop.clock("evaluation"):
                        measured = response_loss.measure(policy, examples.held_out, settings.microbatch_tokens)
                        metrics["loss/validation"] = measured.mean
                loop.record(metrics, SHOWN, sum(map(len, texts)))
    if measured is None:  # the run had been stopped after its last step
        measured = response_loss.measure(policy, examples.held_out, settings.microbatch_tokens)
    return measured


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts(records: Records, examples: Examples) -> dict[str, Any]:
    """How many demonstrations there were on each side, and how many were dropped for their length."""
    return {"training": len(records.training), "held_out": len(records.held_out), "too_long": examples.too_long}


def compare_answers(
    prompts: completions.CompletionPrompts, base: Policy, policy: Policy, settings: SFTSettings, run_dir: RunDir
) -> dict[str, Any]:
    """Let base, few-shot base and SFT model answer the same prompts; writes `samples.jsonl` and prints a few rows."""
    if not prompts.prompts:
        return {}
    options = settings.completion_tokens, settings.microbatch_tokens
    answered = {"base": completions.complete(base, prompts.prompts, *options)}
    if prompts.after_shots:
        answered["few_shot"] = completions.complete(base, prompts.after_shots, *options)
    answered["sft"] = completions.complete(policy, prompts.prompts, *options)
    run_dir.samples(run_dir.step, completions.rows(prompts, answered))
    shown = completions.table(prompts, answered, PRINTED)
    print_answers(shown, f"the first {len(shown)} of {len(prompts.prompts)} prompts")
    return completions.figures(prompts, answered, settings.seed)


def headline(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures that are printed and stand in the model card."""
    named = {f"held-out loss, {name}": figure for name, figure in report["validation_loss"].items()}
    for key, title in (("bleu", "BLEU"), ("chrf", "chrF"), ("eos_rate", "end-of-text rate")):
        named |= {f"{title}, {name}": figure for name, figure in report.get(key, {}).items()}
    return named


def artefact_of(
    checkpoint: Checkpoint,
    base: Policy,
    examples: Examples,
    template: Template,
    settings: SFTSettings,
    figures: dict[str, dict[str, Any]],
    run_dir: RunDir,
) -> Artefact:
    """What is said of the model beside its weights."""
    return Artefact(
        stage="sft",
        title=Path(settings.output).name,
        sentence="A language model that answers, fine-tuned on demonstrations (step 1 of InstructGPT).",
        settings=run_dir.recipe,
        made_with=made_with(run_dir.path),
        template=TemplateUsed(template.name, template.hash, template.chat_template),
        base=base.trunk.name,
        base_hash=base.trunk.hash,
        start=checkpoint,
        notes={"data": provenance(settings.data, len(examples.training))},
        figures=figures,
        max_new_tokens=settings.completion_tokens,
    )
