"""Reward models as judges of a policy's answers: from the tokens that it wrote, where both read the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from heed.data.encode import encode_prompts, encode_responses
from heed.data.template import Template
from heed.errors import DataError
from heed.evaluation.speaker import BATCH, Messages, dialogues
from heed.models.answers import Answers, score_answers
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.scalar_head import RewardModel
from heed.models.scores import score_texts
from heed.records import Dialogue, clean, short


@dataclass(frozen=True)
class Judge:
    """A reward model and the template that it was trained with."""

    model: RewardModel
    template: Template

    @classmethod
    def load(cls, shelf: Shelf, name: str, role: str) -> Judge:
        """A run of `heed reward` by name; `role` names its adapter."""
        model = shelf.reward_model(name, role)
        return cls(model, Template.named(open_checkpoint(name).template or "dialogue", model.trunk.tokenizer))

    def score(self, prompts: str | Messages | Sequence[str | Messages], responses: str | Sequence[str]) -> list[float]:
        """The normalised score of each response to the prompt at its place; every response counts as one that ended.

        Raises DataError where there are not as many responses as prompts.
        """
        asked, answered = dialogues(prompts), [responses] if isinstance(responses, str) else list(responses)
        if len(asked) != len(answered):
            told = f"{len(asked)} prompts, but {len(answered)} responses"
            raise DataError("responses", told, "give one response for each prompt")
        for i, text in enumerate(answered, start=1):
            if not isinstance(text, str):
                raise DataError(f"response {i}", f"{short(text)} is not text", "give each response as a string")
        words, ended = [clean(text) for text in answered], [True] * len(answered)
        return self.scores_of_texts(asked, words, ended, BATCH).tolist() if words else []

    def scores(
        self, prompts: Sequence[Dialogue], answers: Answers, policy: Policy, template: Template, size: int
    ) -> Float[Tensor, " answers"]:
        """Normalised scores of a policy's answers; `template` is the policy's."""
        if self._reads_tokens_of(policy, template):
            return score_answers(self.model, answers, size)
        repeated = [prompt for prompt in prompts for _ in range(answers.copies)]
        return self.scores_of_texts(repeated, answers.texts, answers.finished, size)

    def scores_of_texts(
        self, prompts: Sequence[Dialogue], texts: Sequence[str], finished: Sequence[bool], size: int
    ) -> Float[Tensor, " texts"]:
        """Normalised scores of answers in words; what does not fit the context is cut from the prompt's left end."""
        tokenizer, context = self.model.trunk.tokenizer, self.model.trunk.context
        asked = encode_prompts(prompts, self.template, tokenizer)
        answered = encode_responses(texts, self.template, tokenizer, finished)
        whole = [(prompt + response)[-context:] for prompt, response in zip(asked, answered, strict=True)]
        return score_texts(self.model, whole, size * max(map(len, whole)))

    def _reads_tokens_of(self, policy: Policy, template: Template) -> bool:
        judge, writer = self.model.trunk, policy.trunk
        same_words = judge is writer or judge.tokenizer.get_vocab() == writer.tokenizer.get_vocab()
        return same_words and self.template.hash == template.hash and judge.context >= writer.context
