"""Cross-entropy of held-out demonstrations, before and after, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heed.data.batch import sft_batch
from heed.data.encode import EncodedDemonstration
from heed.formulas.statistics import bootstrap_statistic
from heed.models.policy import Policy
from heed.rows.microbatches import microbatches


@dataclass(frozen=True)
class ResponseLoss:
    """−log π of each demonstration's response, end-of-text included, and how many tokens that is."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Nats per token; every token weighs the same."""
        return float(self.nats.sum() / self.tokens.sum())


@torch.no_grad()
def measure(policy: Policy, examples: Sequence[EncodedDemonstration], microbatch_tokens: int) -> ResponseLoss:
    """The loss of each demonstration, in their order."""
    pad, device = policy.trunk.tokenizer.pad_token_id, policy.trunk.device
    nats, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    for rows in microbatches([len(example.tokens) for example in examples], microbatch_tokens, device.type):
        batch = sft_batch([examples[i] for i in rows], pad)
        with policy.active():
            flat = policy.flat_logprobs(
                batch.tokens.to(device), batch.mask.to(device), batch.response_mask.to(device)
            ).cpu()
        tokens[rows] = batch.response_mask.sum(dim=1).numpy()
        nats[rows] = [-float(line.sum(dtype=torch.float64)) for line in flat.split(tokens[rows].tolist())]
    return ResponseLoss(nats, tokens)


def figures(before: ResponseLoss, after: ResponseLoss, seed: int) -> dict[str, dict[str, Any]]:
    """Nats per token before and after, and `difference`, after minus before; bootstrapped over demonstrations."""
    kinds = {"before": before.nats, "after": after.nats, "difference": after.nats - before.nats}
    found = {}
    for name, nats in kinds.items():

        def per_token(indices: NDArray[np.int64], nats: NDArray[np.float64] = nats) -> float:
            return float(nats[indices].sum() / before.tokens[indices].sum())

        found[name] = bootstrap_statistic(per_token, len(nats), seed).as_dict()
    return found
