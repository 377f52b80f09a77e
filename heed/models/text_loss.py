"""Cross-entropy of running text, which tells what fine-tuning cost the model elsewhere (the alignment tax)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heed.models.policy import Policy


def text_loss(policy: Policy, rows: Int[Tensor, "rows time"], size: int) -> Float[Tensor, " rows"]:
    """Nats per token of each row, its first token not counted; `size` rows at once."""

    def loss(piece: Tensor) -> Tensor:
        tokens = piece.to(policy.trunk.device)
        counted = torch.ones_like(tokens, dtype=torch.bool)
        mask = counted.clone()
        counted[:, 0] = False
        return -policy.flat_logprobs(tokens, mask, counted).view(len(tokens), -1).mean(dim=1).cpu()

    with policy.active():
        return torch.cat(list(policy.trunk.threads.map(loss, rows.split(size))))
