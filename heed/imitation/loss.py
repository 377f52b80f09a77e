"""The loss of one step of SFT, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from heed.data.batch import sft_batch
from heed.data.encode import EncodedDemonstration
from heed.formulas.logprobs import completion_loss
from heed.imitation.examples import counted
from heed.models.policy import Policy
from heed.rows.microbatches import microbatches
from heed.rows.threads import SERIAL, RowThreads
from heed.training.guards import require_finite


def backpropagate(
    policy: Policy,
    parts: dict[str, list[EncodedDemonstration]],
    dropout: float,
    microbatch_tokens: int,
    threads: RowThreads = SERIAL,
) -> dict[str, float]:
    """Add up the gradient of one step's loss; returns the loss of each part, in nats per token.

    The loss is `completion_loss` over the tokens of the step that count: responses with their EOS, text.
    """
    pad, device, tokens = policy.trunk.tokenizer.pad_token_id, policy.trunk.device, sum(map(counted, parts.values()))

    def loss(examples: list[EncodedDemonstration]) -> tuple[Tensor, float]:
        batch = sft_batch(examples, pad)
        rows = batch.tokens.to(device), batch.mask.to(device), batch.response_mask.to(device)
        logprobs = policy.flat_logprobs(*rows)
        nats = require_finite(-float(logprobs.detach().sum()), "the loss")
        return completion_loss(logprobs, tokens), nats

    losses, trained = {}, list(policy.parameters().values())
    for name, examples in parts.items():
        groups = microbatches([len(example.tokens) for example in examples], microbatch_tokens, device.type)
        pieces = [partial(loss, [examples[i] for i in rows]) for rows in threads.share(groups)]
        with policy.active(), adapter_dropout(policy, dropout):
            nats = sum(threads.backward(pieces, trained))
        if examples:
            losses[f"loss/{name}"] = nats / counted(examples)
    return losses


@contextmanager
def adapter_dropout(policy: Policy, probability: float) -> Iterator[None]:
    """Dropout on the adapter's input inside the block only: it is the one dropout that a loaded model has left."""
    policy.trunk.model.train(probability > 0)
    try:
        yield
    finally:
        policy.trunk.model.eval()
