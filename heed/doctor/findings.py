"""What the doctor says: symptoms by test (T0–T15), causes by number (NK1–NK24), and what to do about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
GRAVEST: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `id` is a cause (NK…) where one is known, else the test that failed (T…).

    `evidence` holds the numbers behind the message, by name.
    """

    id: str
    severity: Severity
    message: str
    hint: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The finding as one JSON object."""
        return {
            "id": self.id, "severity": self.severity, "message": self.message, "hint": self.hint,
            "evidence": dict(self.evidence),
        }  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """Why a measured KL may be wrong, in a few words; how grave that is; what mends it."""

    name: str
    severity: Severity
    hint: str


CAUSES = {
    "NK1": Cause(
        "the sampler truncates (top-k, top-p, min-p)",
        "error",
        "set top_k=0, top_p=1.0, min_p=None for rollouts; generate() keeps 50 tokens unless told so",
    ),
    "NK2": Cause(
        "temperature in the sampler or the scorer only",
        "error",
        "divide the logits by the temperature in policy, old and reference scoring alike",
    ),
    "NK3": Cause(
        "a penalty or ban in the sampler (repetition, n-grams, bad words)",
        "error",
        "set repetition_penalty=1.0, no_repeat_ngram_size=0 and no banned tokens for rollouts",
    ),
    "NK4": Cause(
        "end-of-text is suppressed",
        "error",
        "remove min_length and min_new_tokens; price a missing end-of-text token in the score instead",
    ),
    "NK5": Cause(
        "rollouts are not samples (greedy, beams)", "error", "set do_sample=True and num_beams=1 for rollouts"
    ),
    "NK6": Cause(
        "dropout is on in the policy's scoring",
        "error",
        "call eval() before scoring, or set every dropout probability to 0",
    ),
    "NK7": Cause(
        "dropout is on in the sampler",
        "error",
        "call eval() before generating: generate() leaves the model in the mode it was in",
    ),
    "NK8": Cause(
        "positions do not follow the attention mask",
        "error",
        "pass position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0); a bare forward counts the pads",
    ),
    "NK9": Cause(
        "the attention mask hides tokens or shows padding",
        "error",
        "pad with a token that is not end-of-text, and carry masks instead of making them from ids",
    ),
    "NK10": Cause(
        "positions after end-of-text are counted", "error", "let the mask end with the first end-of-text token"
    ),
    "NK11": Cause(
        "labels are shifted against the logits",
        "error",
        "the logits at position i predict the token at i + 1: use logits[:, :-1] with tokens[:, 1:]",
    ),
    "NK12": Cause(
        "policy and reference are swapped", "error", "KL is log policy − log reference on the policy's tokens"
    ),
    "NK13": Cause(
        "the sampler ran another model",
        "error",
        "check which adapter is active while sampling, and that merged or served weights are fresh",
    ),
    "NK14": Cause(
        "the reference is not the initial policy",
        "error",
        "an adapter switched off leaves the base model: keep the SFT adapter as reference, or merge it",
    ),
    "NK15": Cause("the reference moves", "error", "freeze the reference: it shares parameters that are trained"),
    "NK16": Cause(
        "sampler and scorer differ numerically",
        "warning",
        "take log-softmax in float32 and use the same kernels and dtype in both",
    ),
    "NK17": Cause(
        "the scored tokens are not the sampled ones", "error", "keep the sampled ids; never tokenise decoded text again"
    ),
    "NK18": Cause(
        "the scored prompts are not the sampled ones",
        "error",
        "use one template, one truncation side and one rule for the first token in sampler and scorer",
    ),
    "NK19": Cause("KL was measured on updated weights", "warning", "measure KL on the rollout, before its update"),
    "NK20": Cause(
        "log-probabilities are not normalised",
        "error",
        "take log_softmax over the whole vocabulary, in float32, of logits that no filter has touched",
    ),
    "NK21": Cause("only noise", "info", "nothing to mend: more tokens make it smaller"),
    "NK22": Cause(
        "the reward is paid by negative KL",
        "warning",
        "mend the measurement first: changing kl_coef treats the symptom",
    ),
    "NK23": Cause(
        "the controller lowers β on negative KL", "warning", "freeze kl_coef while the measured KL is not valid"
    ),
    "NK24": Cause(
        "forced tokens are counted", "error", "leave tokens out of the mask that the sampler was made to write"
    ),
}
"""The causes, by number."""

TESTS = {
    "T0": "settings of the sampler: nothing that the scorer does not know of",
    "T1": "the ids that were scored are the ids that were sampled",
    "T2": "scoring again gives the sampler's own log-probabilities",
    "T3": "scoring twice gives the same bits",
    "T4": "a row alone and unpadded scores as it does in its batch",
    "T5": "before any update policy and reference agree",
    "T6": "Σ(k1 − exact KL) is sampling noise",
    "T7": "Σ(surprisal − entropy) is sampling noise",
    "T8": "events happen as often as the policy says",
    "T9": "the mass ranked above the drawn token is uniform",
    "T10": "mean reference-to-policy ratio is 1",
    "T11": "the probability ratio is 1 before the first update",
    "T12": "the mask counts every sampled token and nothing else",
    "T13": "the reference stays, the policy moves",
    "T14": "log-probabilities are normalised",
    "T15": "sampler and scorer hold the same weights",
}
"""What passes each test."""


def finding(name: str, message: str, severity: Severity | None = None, hint: str = "", **evidence: Any) -> Finding:
    """A finding with the severity and hint of its cause; a bare symptom is an error until it is explained."""
    cause = CAUSES.get(name)
    if cause is None:
        return Finding(name, severity or "error", message, hint or f"should hold: {TESTS[name]}", evidence)
    return Finding(name, severity or cause.severity, message, hint or cause.hint, evidence)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, otherwise in the order given."""
    return sorted(findings, key=lambda found: GRAVEST.index(found.severity))
