"""T0: what the sampler was told, against what the scorer assumes.

Names are those of transformers' `generate`, vLLM, SGLang and the OpenAI interface. A setting that is not here is not
passed over: T0 is then "not tested", and the setting named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heed.doctor.findings import Finding, finding

Settings = Mapping[str, Any]
SAME = 1e-4  # share by which temperatures may differ: some trainers add 1e-7 to theirs


def _at_least(limit: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value >= limit


def _at_most(limit: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value <= limit


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


HARMLESS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("top_k", "min_p", "epsilon_cutoff", "eta_cutoff", "top_a"), ("NK1", _at_most(0))),
    **dict.fromkeys(("top_p", "typical_p", "top_h", "tfs"), ("NK1", _at_least(1))),
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty"), ("NK3", _is(1))),
    **dict.fromkeys(
        ("presence_penalty", "frequency_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
        ("NK3", _is(0)),
    ),
    **dict.fromkeys(
        ("bad_words_ids", "bad_words", "suppress_tokens", "begin_suppress_tokens", "logit_bias", "sequence_bias",
         "allowed_token_ids", "logits_processors", "logits_processor", "prefix_allowed_tokens_fn", "guided_decoding",
         "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "json_schema",
         "regex", "ebnf", "watermarking_config", "exponential_decay_length_penalty"),
        ("NK3", _is()),
    ),
    "guidance_scale": ("NK13", _is(1)),
    **dict.fromkeys(("min_length", "min_new_tokens", "min_tokens"), ("NK4", _at_most(0))),
    "ignore_eos": ("NK4", _is(False)),
    "do_sample": ("NK5", _is(True)),
    **dict.fromkeys(("num_beams", "num_beam_groups", "best_of", "beam_width"), ("NK5", _is(1))),
    "use_beam_search": ("NK5", _is(False)),
    **dict.fromkeys(("penalty_alpha", "diversity_penalty"), ("NK5", _is(0))),
    **dict.fromkeys(("force_words_ids", "constraints", "dola_layers"), ("NK5", _is())),
    **dict.fromkeys(("forced_eos_token_id", "forced_bos_token_id", "forced_decoder_ids"), ("NK24", _is())),
    "truncate_prompt_tokens": ("NK18", _is(-1)),
}  # fmt: skip
"""Settings that change what is drawn: the cause they would be, and which values change nothing. What is not set (null,
or an empty list or object) never does."""

IRRELEVANT = frozenset(
    "temperature max_new_tokens max_tokens max_completion_tokens max_length max_time n num_return_sequences seed "
    "pad_token_id eos_token_id bos_token_id decoder_start_token_id use_cache cache_implementation cache_config "
    "return_dict_in_generate output_scores output_logits output_attentions output_hidden_states logprobs top_logprobs "
    "prompt_logprobs flat_logprobs detokenize skip_special_tokens spaces_between_special_tokens "
    "include_stop_str_in_output no_stop_trim length_penalty early_stopping renormalize_logits remove_invalid_values "
    "min_tokens_to_keep stop stop_strings stop_token_ids stream stream_interval output_kind skip_reading_prefix_cache "
    "transformers_version _from_model_config model echo user return_token_ids".split()
)
"""Settings that change nothing of what a token is drawn from. `temperature` is compared with the scorer's."""


def sampler_settings(
    rows: Sequence[Settings],
    scored_temperature: float | None = None,
    vocab: int | None = None,
    largest_id: int | None = None,
) -> tuple[list[Finding], list[str]]:
    """T0: a finding for each setting that the scorer does not know of, and the names that are not known here.

    `rows` are the settings of each response. A top-k of the whole vocabulary cuts nothing: where `vocab` is not known
    and k is beyond the `largest_id` that was drawn, it is not judged.
    """
    findings: dict[str, Finding] = {}
    unknown: list[str] = []
    for name, value in _distinct(rows):
        if name == "temperature":
            for one in _temperature(value, scored_temperature):
                findings.setdefault(one.id, one)
        elif name in IRRELEVANT or value is None or value in ([], {}):
            continue
        elif name not in HARMLESS or (name == "top_k" and _may_hold_all(value, vocab, largest_id)):
            unknown.append(name)
        elif not (HARMLESS[name][1](value) or (name == "top_k" and _holds_all(value, vocab))):
            message = f"The sampler was run with {name}={value!r}, which the scored policy does not know of."
            findings.setdefault(name, finding(HARMLESS[name][0], message, test="T0", setting=name, value=value))
    return list(findings.values()), list(dict.fromkeys(unknown))


def _distinct(rows: Sequence[Settings]) -> list[tuple[str, Any]]:
    """Names with every value that they have in some row."""
    seen = {(name, repr(value)): (name, value) for row in rows for name, value in row.items()}
    return list(seen.values())


def _holds_all(k: Any, vocab: int | None) -> bool:
    return vocab is not None and _is_number(k) and k >= vocab


def _may_hold_all(k: Any, vocab: int | None, largest_id: int | None) -> bool:
    return vocab is None and largest_id is not None and _is_number(k) and k > largest_id


def _temperature(value: Any, scored: float | None) -> list[Finding]:
    if value == 0 and not isinstance(value, bool):
        return [finding("NK5", "The sampler was run at temperature 0, which draws nothing.", test="T0")]
    if value is None or scored is None or (_is_number(value) and math.isclose(value, scored, rel_tol=SAME)):
        return []
    message = (
        f"Tokens were drawn at temperature {value} and scored at {scored}. If the trainer does score at {value}, "
        f"say so: --temperature {value}."
    )
    return [finding("NK2", message, test="T0", sampler=value, scorer=scored)]
