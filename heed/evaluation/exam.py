"""One set of prompts that every model answers under the same conditions, and those who judge the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heed.data.encode import encode_prompts, encode_responses
from heed.data.prompts import PromptSet, until_next_turn
from heed.data.template import Template
from heed.errors import ConfigError
from heed.evaluation.best import best, paid
from heed.evaluation.judge import Judge
from heed.evaluation.side_by_side import Answered
from heed.formulas.kl import best_of_n_kl
from heed.models.answers import Answers, answer, divergence
from heed.models.policy import Policy
from heed.models.text_loss import text_loss
from heed.records import Dialogue
from heed.settings.common import MissingEosSettings, SamplingSettings
from heed.training.metrics import Progress


@dataclass(frozen=True)
class Exam:
    """What is the same for all models. Each draws with the same seed, so equal models answer alike.

    `text` are rows of running text (none: an empty tensor); `gold` is a judge of words beside the reward models, if
    there is one: prompts, answers and whether they ended → scores.
    """

    prompts: PromptSet
    reference: Policy
    judges: dict[str, Judge]
    template: Template
    sampling: SamplingSettings
    seed: int
    text: Tensor
    gold: Callable[[Sequence[Dialogue], Sequence[str], Sequence[bool]], Sequence[float]] | None = None

    @property
    def asked(self) -> list[Dialogue]:
        """The prompts as dialogues."""
        return [record.prompt for record in self.prompts.records]

    def alone(self, name: str, policy: Policy) -> Answered:
        """Answers to the prompts as they are, with scores and KL from the very tokens that were drawn."""
        answers, size = self._answer(name, policy, self.prompts.tokens), self.sampling.batch
        kl = divergence(policy, self.reference, answers, self.sampling.temperature, size)
        loss = text_loss(policy, self.text, size) if len(self.text) else None
        return Answered(answers.texts, answers.finished, answers.lengths, self._scores(policy, answers), kl, loss)

    def after_shots(self, shots: Dialogue, context: int) -> list[list[int]]:
        """The prompts, encoded, after demonstrations. Raises ConfigError where they leave no room for an answer."""
        tokenizer = self.reference.trunk.tokenizer
        tokens = encode_prompts([(*shots, *prompt) for prompt in self.asked], self.template, tokenizer)
        needed = max(map(len, tokens)) + self.sampling.max_new_tokens
        if needed > context:
            told = f"demonstrations, prompt and response need {needed} of {context} positions"
            raise ConfigError("few_shot", told, "lower `few_shot`, `hygiene.max_prompt_tokens` or `max_new_tokens`")
        return tokens

    def few_shot(self, name: str, policy: Policy, shots: int, tokens: list[list[int]]) -> Answered:
        """Answers given after demonstrations, which the judges do not see. They end where the model goes on to write
        the next turn. The reference reads other prompts, so there is no KL; and what the model knows of texts is what
        it knows without demonstrations."""
        answers = self._answer(name, policy, tokens)
        cut = [until_next_turn(text) for text in answers.texts]
        texts = [words for words, _ in cut]
        finished = [went_on or ended for (_, went_on), ended in zip(cut, answers.finished, strict=True)]
        lengths = [len(row) for row in encode_responses(texts, self.template, policy.trunk.tokenizer, finished)]
        scores = {
            judge: one.scores_of_texts(self.asked, texts, finished, self.sampling.batch)
            for judge, one in self.judges.items()
        }
        return Answered(texts, finished, lengths, scores | self._gold(texts, finished), None, None, few_shot=shots)

    def best_of(self, name: str, policy: Policy, n: int, missing_eos: MissingEosSettings) -> Answered:
        """The best of n answers by what the first judge would pay for them, `missing_eos` being the price of a missing
        end, and what all judges say of it. Only its KL's bound is known, and what it knows of texts is what the model
        itself does."""
        every = self._answer(name, policy, self.prompts.tokens, n)
        chooses, *_ = self.judges.values()
        scores = chooses.scores(self.asked, every, policy, self.template, self.sampling.batch)
        answers = best(every, paid(every, scores, missing_eos))
        bound = best_of_n_kl(n) if policy is self.reference else None
        return Answered(
            answers.texts, answers.finished, answers.lengths, self._scores(policy, answers), None, None, kl_bound=bound
        )

    def _answer(self, name: str, policy: Policy, tokens: list[list[int]], copies: int = 1) -> Answers:
        generator = torch.Generator(policy.trunk.device).manual_seed(self.seed)
        with Progress(name, len(tokens)) as progress:
            return answer(
                policy, tokens, self.sampling, generator, copies, answered=lambda prompts: progress.update(prompts, {})
            )

    def _scores(self, policy: Policy, answers: Answers) -> dict[str, Tensor]:
        scores = {
            judge: one.scores(self.asked, answers, policy, self.template, self.sampling.batch)
            for judge, one in self.judges.items()
        }
        return scores | self._gold(answers.texts, answers.finished)

    def _gold(self, texts: list[str], finished: list[bool]) -> dict[str, Tensor]:
        return {"gold": torch.tensor(self.gold(self.asked, texts, finished))} if self.gold else {}
