"""PPO-ptx: pretraining text in the policy's loss, so that it forgets less. InstructGPT (arXiv 2203.02155), eq. 2.

L = L_PPO + γ L_ptx: the gradients of both are added. The paper's γ = 27.8 comes without its normaliser (sum or mean
over tokens), so it is not our default.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from heed.formulas.logprobs import completion_loss
from heed.models.policy import Policy
from heed.rl.minibatch import Loss
from heed.rows.threads import RowThreads


class Ptx:
    """`coef` times the token-mean cross-entropy of `ratio` rows of `text` an episode. It has no state of its own: its
    rows are drawn by `generator`."""

    def __init__(
        self,
        policy: Policy,
        text: Int[Tensor, "rows sequence"],
        coef: float,
        ratio: float,
        microbatch: int,
        generator: torch.Generator,
        threads: RowThreads,
    ) -> None:
        self.policy, self.text, self.coef, self.ratio = policy, text, coef, ratio
        self.microbatch, self.generator, self.threads = microbatch, generator, threads

    def backward(self, episodes: int) -> dict[str, float]:
        """Add the gradient of the text that belongs to so many episodes; returns `loss/ptx`, nats per token."""
        count, device = max(1, round(self.ratio * episodes)), self.generator.device
        rows = torch.randint(len(self.text), (count,), generator=self.generator, device=device).cpu()
        pieces = self.threads.share(list(rows.split(self.microbatch)))
        losses = [partial(self._loss, piece, len(rows)) for piece in pieces]
        with self.policy.active():
            found = self.threads.backward(losses, list(self.policy.parameters().values()))
        return {"loss/ptx": sum(piece["loss/ptx"] for piece in found)}

    def _loss(self, piece: Tensor, rows: int) -> Loss:
        tokens = self.text[piece].to(self.policy.trunk.device)
        everything = torch.ones_like(tokens, dtype=torch.bool)
        counted = everything.clone()
        counted[:, 0] = False
        logprobs = self.policy.flat_logprobs(tokens, everything, counted)
        nats = completion_loss(logprobs, rows * (tokens.shape[1] - 1))
        return self.coef * nats, {"loss/ptx": float(nats.detach())}
