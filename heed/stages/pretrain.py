"""Step 0: plain text → a small base model with a tokenizer of its own, for machines that have none."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from heed.data.batch import text_rows
from heed.data.encode import encode_texts
from heed.data.order import shuffled_batches
from heed.data.sources import read_texts
from heed.errors import ConfigError, DataError
from heed.formulas.statistics import bootstrap_mean
from heed.models.artefact import Artefact
from heed.models.card import made_with
from heed.models.policy import Policy
from heed.models.text_loss import text_loss
from heed.models.tokenizer import train_tokenizer
from heed.models.trunk import Trunk
from heed.rows.threads import SERIAL, RowThreads
from heed.settings.pretrain import PretrainSettings
from heed.training.begin import announce
from heed.training.device import has_bfloat16, pick_device
from heed.training.figures import print_figures
from heed.training.guards import decoded, require_finite
from heed.training.loop import Loop
from heed.training.optimizer import (
    MuonWithAdamW,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)
from heed.training.optimizer import step as optimizer_step
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir
from heed.training.state import Same, Weights

EVALUATIONS = 5
VALIDATION_TOKENS = 100_000  # held-out tokens that are scored; more would not narrow the interval to speak of
SHOWN = ("loss/train", "loss/validation")

log = logging.getLogger("heed")


class Corpus(NamedTuple):
    """Rows of running text, `[rows, sequence]`, and what is known of them."""

    training: Tensor
    held_out: Tensor
    unigram_loss: float  # nats per held-out token of a model that knows how frequent tokens are, and nothing else


def run(settings: PretrainSettings) -> Path:
    """Train a tokenizer and a GPT-2-shaped model from nothing; measure it on documents that neither has seen."""
    check(settings)
    documents, held_out = split(read_texts(settings.text, settings.limit_characters), settings)
    device = pick_device(settings.device, planned_parameters(settings))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        tokenizer = train_tokenizer(settings.tokenizer, documents, settings.vocabulary, settings.context)
        corpus = encode(documents, held_out, tokenizer, settings)
        model = new_model(tokenizer, settings, device)
        before = text_loss(model, corpus.held_out, settings.batch)
        after = train(model, corpus, generator, settings, run_dir)
        figures = {
            "nats per token, before": bootstrap_mean(before.numpy(), settings.seed).as_dict(),
            "nats per token": bootstrap_mean(after.numpy(), settings.seed).as_dict(),
        }
        run_dir.save_checkpoint(partial(artefact_of(settings, figures, run_dir).save, model))
        run_dir.write_json("report.json", report(model, corpus, figures))
        print_figures(figures, f"held-out text; token frequencies alone would give {corpus.unigram_loss:.4g}")
        run_dir.finished(
            "heed", "sft", "--model", settings.output, "--data", "DEMONSTRATIONS.jsonl", "--output", "runs/sft"
        )
    return run_dir.path


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(settings: PretrainSettings) -> None:
    """What settings alone can tell."""
    if settings.width % settings.heads:
        raise ConfigError("heads", f"{settings.heads} does not divide width {settings.width}", "choose a divisor")
    if settings.sequence > settings.context:
        told = f"{settings.sequence} tokens do not fit into a context of {settings.context}"
        raise ConfigError("sequence", told, "lower it, or raise `context`")


def split(documents: Sequence[str], settings: PretrainSettings) -> tuple[list[str], list[str]]:
    """Documents to learn from and held-out ones, at random. Of a single document the end is held out."""
    if len(documents) == 1:
        cut = round(len(documents[0]) * (1 - settings.validation_share))
        return [documents[0][:cut]], [documents[0][cut:]]
    shuffled = random.Random(settings.seed).sample(documents, len(documents))
    count = min(max(1, round(settings.validation_share * len(documents))), len(documents) - 1)
    return shuffled[count:], shuffled[:count]


def encode(
    documents: list[str], held_out: list[str], tokenizer: PreTrainedTokenizerBase, settings: PretrainSettings
) -> Corpus:
    """Documents joined by the end-of-text token and cut into rows."""
    training = text_rows(encode_texts(documents, tokenizer), settings.sequence, tokenizer.eos_token_id)
    scored = text_rows(encode_texts(held_out, tokenizer), settings.sequence, tokenizer.eos_token_id)
    scored = scored[: max(1, VALIDATION_TOKENS // settings.sequence)]
    for name, rows in (("training", training), ("held-out", scored)):
        if not len(rows):
            told = f"the {name} text has fewer than the {settings.sequence} tokens of one row"
            raise DataError(", ".join(settings.text), told, "give more text, or lower `sequence`")
    log.info("%s training tokens, %s entries", f"{training.numel():,}", f"{len(tokenizer):,}")
    if tokenizer.unk_token_id is not None and (unknown := int((training == tokenizer.unk_token_id).sum())):
        log.warning("%s training tokens are unknown words: raise `vocabulary`", f"{unknown:,}")
    return Corpus(training, scored, unigram_loss(training, scored, len(tokenizer)))


def unigram_loss(training: Tensor, held_out: Tensor, vocabulary: int) -> float:
    """−mean over held-out tokens of log((n(token) + 1) / (N + V)): n of N training tokens, V entries."""
    counts = torch.bincount(training.flatten(), minlength=vocabulary) + 1.0
    return float(-(counts / counts.sum()).log()[held_out[:, 1:]].mean())


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def new_model(tokenizer: PreTrainedTokenizerBase, settings: PretrainSettings, device: torch.device) -> Policy:
    """GPT-2's architecture without dropout, output head tied to the input embedding, random weights in float32.

    Weights start with sd 1 / √width: GPT-2's 0.02 belongs to its width, and a narrow model learns more slowly from it.
    Its activation is ReLU: the tanh in GPT-2's takes a sixth of a small model's step. Attention over short rows is
    faster on a processor as plain products than in torch's kernel once products are in bfloat16 (15,000 against 10,500
    tokens/s a core).
    """
    plain = device.type == "cpu" and in_bfloat16(settings, device)
    shape = GPT2Config(
        vocab_size=len(tokenizer), n_positions=settings.context, n_embd=settings.width,
        n_layer=settings.layers, n_head=settings.heads, activation_function="relu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=settings.width**-0.5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager" if plain else "sdpa",
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).to(device).eval().requires_grad_(False)
    log.info("%s parameters", f"{model.num_parameters():,}")
    return Policy(Trunk(model, tokenizer, settings.output))


def planned_parameters(settings: PretrainSettings) -> int:
    """Weights of `new_model` where the tokenizer uses its whole vocabulary: embeddings, blocks (attention 4·width², MLP
    8·width², 9·width of biases and 4·width of norms), the last norm."""
    width = settings.width
    return width * (settings.vocabulary + settings.context + 2) + settings.layers * (12 * width**2 + 13 * width)


def in_bfloat16(settings: PretrainSettings, device: torch.device) -> bool:
    """Whether products are taken in bfloat16, with float32 weights and optimiser. `dtype: auto` does so wherever the
    hardware can: no frozen weights are involved, and even small models train 1.6 times as fast (measured, one core)."""
    return settings.dtype == "bfloat16" or (settings.dtype == "auto" and has_bfloat16(device))


def train(
    model: Policy, corpus: Corpus, generator: torch.Generator, settings: PretrainSettings, run_dir: RunDir
) -> Tensor:
    """One optimiser step for each batch of rows; held-out text is scored `EVALUATIONS` times, after the last step too,
    which is what is returned: nats per token of each row."""
    batches = shuffled_batches(len(corpus.training), settings.batch, settings.epochs, settings.seed)
    threads, losses = RowThreads.for_model(model.trunk.model), None
    with model.trainable() as parameters:
        optimizer = optimizer_for(parameters, settings, threads.count)
        parts = {"model": Weights(parameters), "optimizer": optimizer, "random": Randomness(generator)}
        parts["inputs"] = Same(text=hashlib.sha256(corpus.training.numpy().tobytes()).hexdigest())
        announce(run_dir, model.trunk.model.parameters(), parameters, threads.count)
        with Loop(run_dir, "pretrain", len(batches), parts, settings.save_every) as loop:
            for step in loop:
                rows = batches[step - 1]
                loop.reads(partial(decoded, model.trunk.tokenizer, corpus.training[rows]))
                factor = learning_rate_factor(step, len(batches), settings.optimizer)
                set_learning_rate(optimizer, factor)
                loss = backpropagate(model, corpus.training[rows], settings, threads)
                norm = optimizer_step(optimizer, parameters.values(), settings.optimizer.max_grad_norm)
                rate = settings.optimizer.learning_rate * factor
                metrics = {"loss/train": loss, "grad_norm": norm, "learning_rate": rate}
                if loop.is_due(EVALUATIONS):
                    with loop.clock("evaluation"):
                        losses = text_loss(model, corpus.held_out, settings.batch)
                        metrics["loss/validation"] = float(losses.mean())
                loop.record(metrics, SHOWN, len(rows) * settings.sequence)
    return text_loss(model, corpus.held_out, settings.batch) if losses is None else losses


def optimizer_for(
    parameters: Mapping[str, torch.nn.Parameter], settings: PretrainSettings, threads: int = 1
) -> torch.optim.Optimizer | MuonWithAdamW:
    """Muon learns facts and copying from half the tokens that AdamW needs (the pocket world, docs/pocket-world.md)."""
    if settings.method == "muon":
        return MuonWithAdamW(parameters, settings.optimizer, threads)
    return make_optimizer({"model": parameters.values()}, settings.optimizer)


def backpropagate(model: Policy, rows: Tensor, settings: PretrainSettings, threads: RowThreads = SERIAL) -> float:
    """Gradient of the mean cross-entropy of a batch, in nats per token; the first token of a row is given."""
    device = model.trunk.device
    bfloat16 = in_bfloat16(settings, device)

    def loss(part: Tensor) -> tuple[Tensor, float]:
        tokens = part.to(device)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        counted = mask.clone()
        counted[:, 0] = False
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            mean = -model.flat_logprobs(tokens, mask, counted).mean() * (len(part) / len(rows))
        return mean, float(mean.detach())

    parts = [partial(loss, part) for part in threads.share([rows])]
    return require_finite(sum(threads.backward(parts, list(model.parameters().values()))), "the loss")


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def report(model: Policy, corpus: Corpus, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`report.json`. Nats per token compare models of one tokenizer only."""
    before, after = figures.values()
    return {
        "validation_loss": {"before": before, "after": after, "unigram": corpus.unigram_loss},
        "training_tokens": corpus.training.numel(),
        "held_out_tokens": corpus.held_out.numel(),
        "vocabulary": len(model.trunk.tokenizer),
        "parameters": model.trunk.model.num_parameters(),
    }


def artefact_of(settings: PretrainSettings, figures: dict[str, dict[str, Any]], run_dir: RunDir) -> Artefact:
    """What is said of the model beside its weights."""
    return Artefact(
        stage="pretrain",
        title=Path(settings.output).name,
        sentence="A small language model that continues text, trained from nothing on plain text.",
        settings=run_dir.recipe,
        made_with=made_with(run_dir.path),
        figures=figures,
        max_new_tokens=settings.context // 2,
    )
