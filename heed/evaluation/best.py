"""Best-of-n as a model among others: the baseline that trains nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heed.formulas import advantages
from heed.models.answers import Answers
from heed.rows.pieces import take
from heed.settings.common import MissingEosSettings


def paid(
    answers: Answers, scores: Float[Tensor, " *shape"], missing_eos: MissingEosSettings
) -> Float[Tensor, " *shape"]:
    """What PPO would pay for each answer: its score, after the price of not ending itself."""
    finished = torch.tensor(answers.finished)
    return advantages.missing_eos(scores.flatten(), finished, missing_eos.mode, missing_eos.value).view(scores.shape)


def best(answers: Answers, scores: Float[Tensor, " answers"]) -> Answers:
    """Of the `copies` answers to each prompt the one that scores highest; of equal ones the first."""
    chosen = scores.view(-1, answers.copies).argmax(dim=1)
    rows = torch.arange(len(chosen)) * answers.copies + chosen
    places = rows.tolist()
    return Answers(
        *take(answers.prompts, answers.responses, rows.to(answers.prompts.tokens.device)),
        [answers.texts[place] for place in places],
        [answers.finished[place] for place in places],
    )
