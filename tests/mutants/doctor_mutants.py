"""Wrong twins of the doctor: its sums, checks and verdicts. Methods are named `Class.name`; see `mutants.py`."""

from __future__ import annotations

from mutants import Mutant, twins

DOCTOR_TESTS = {
    "doctor/statistics": ["test_doctor_statistics.py"],
    "doctor/events": ["test_events.py"],
    "doctor/checks": ["test_checks.py"],
    "doctor/sampler_settings": ["test_sampler_settings.py"],
    "doctor/likeness": ["test_causes.py"],
    "doctor/suspects": ["test_suspects.py"],
    "doctor/causes": ["test_causes.py", "test_checks.py"],
    "doctor/watch": ["test_watch.py::TestPolicyOfAlarms"],
}
"""Which files of tests/doctor/ prove a module."""

STATISTICS = [
    *twins(
        "doctor/statistics",
        "martingale_z",
        ("masked_sum(in_float64(variances), mask)", "in_float64(variances).sum()", "padding adds variance"),
        ("math.sqrt(variance)", "variance", "divided by the variance"),
    ),
    *twins(
        "doctor/statistics",
        "Martingale.z",
        ("self.deviation / math.sqrt(self.variance)", "self.deviation / self.variance", "divided by the variance"),
        ("ceiling * self.deviation / 3", "ceiling * self.deviation", "Bernstein's third is lost"),
        ("if self.deviation <= 0:", "if self.deviation < -1e9:", "the side without a bound is judged too"),
        ("not self.is_whole or", "False and", "too few choices are judged"),
    ),
    *twins(
        "doctor/statistics",
        "Count.z",
        ("self.observed - self.expected", "self.expected - self.observed", "the sign is flipped"),
        ("min(below, above, 0.5)", "min(below, above) / 2", "a two-sided tail"),
        ("1 if below < above else -1", "-1 if below < above else 1", "the exact tail has the other sign"),
        ("self.is_whole or self.wave is None", "True", "few events are taken for normal"),
    ),
    *twins(
        "doctor/statistics",
        "Count.tails",
        ("counts <= self.observed", "counts < self.observed", "P(X < observed)"),
        ("counts >= self.observed", "counts > self.observed", "P(X > observed)"),
        ("self.wave.conj()", "self.wave", "the distribution is mirrored"),
    ),
    *twins(
        "doctor/statistics",
        "Uniform.distance",
        ("steps + 1 / n - ordered", "steps - ordered", "only one side of each step"),
        ("math.sqrt(n) * ", "", "the distance does not grow with n"),
    ),
    *twins(
        "doctor/statistics",
        "Absences.tokens",
        ("& ~self.drawn", "", "tokens that were drawn are absent"),
        ("12 + math.log(expected)", "12", "many tokens are as suspicious as one"),
    ),
    *twins("doctor/statistics", "Absences.__add__", ("self.drawn | other.drawn", "self.drawn", "later draws are lost")),
]

EVENTS = [
    *twins(
        "doctor/events",
        "Context.before",
        ("time < columns[:, None]", "time <= columns[:, None]", "the token stands in its own context"),
        ("(self.counted if responses else self.mask)[rows] & ", "", "padding stands in the context"),
    ),
    *twins(
        "doctor/events",
        "closing",
        ("(columns - back)", "(columns - 1)", "the last token twice"),
        (
            "in_context(before[:, size - 1 :]",
            "in_context(before[:, size - 2 : -1]",
            "the middle of the 3-gram is forbidden",
        ),
    ),
    *twins(
        "doctor/events",
        "Events._ranked",
        ("chosen[:, 0] < limit[:, 0]", "chosen[:, 0] <= limit[:, 0]", "a tie is outside in draws, inside in mass"),
        ("1 - in_float64(best[:, 0])", "in_float64(best[:, 0])", "choices are the likeliest tokens"),
    ),
    *twins(
        "doctor/events",
        "Events.__call__",
        ("self.context.positions(index) < EARLY", "self.context.positions(index) >= EARLY", "late for early"),
        ("noise * tied", "tied", "ties are all at one end"),
        ("(p * (p > chosen))", "(p * (p >= chosen))", "ties are counted twice"),
    ),
]

CHECKS = [
    *twins(
        "doctor/checks",
        "token_identity",
        ("list(a) != list(b)", "len(a) != len(b)", "ids are not compared"),
    ),
    *twins(
        "doctor/checks",
        "rescore_gap",
        ("(scored - sampled)", "(sampled - scored)", "the mean gap has the other sign"),
        ("[mask.cpu()]", ".flatten()", "padding is compared"),
        ("_within(tolerance,", "_within(NUMERICAL,", "float32 gets the tolerance of what is not known"),
        ("if _within(NUMERICAL, mean, p99, largest):", "if True:", "a large gap is numerical"),
    ),
    *twins(
        "doctor/checks",
        "_within",
        ("abs(mean) <= tolerance.mean", "mean <= tolerance.mean", "a large negative gap is within"),
        ("largest <= tolerance.largest", "True", "one token may be far off"),
        ("p99 <= tolerance.p99", "True", "many tokens may be far off, each way"),
    ),
    *twins(
        "doctor/checks",
        "padding_invariance",
        ("masked_fill(~mask, 0)", "masked_fill(mask, 0)", "padding is compared"),
        ("if hidden:", "if not hidden:", "NK8 and NK9 are swapped"),
    ),
    *twins(
        "doctor/checks",
        "identity_at_start",
        ("if kl > 0:", "if kl < 0:", "the sign of KL is not looked at"),
        (".sum(1).mean()", ".mean()", "nats a token, not a response"),
    ),
    *twins(
        "doctor/checks",
        "swapped_roles",
        ("theirs + ours", "theirs - ours", "the right roles are called swapped"),
        ("if size < 1e-4:", "if size < 0:", "two equal models are swapped"),
    ),
    *twins(
        "doctor/checks",
        "mask_audit",
        (".cumsum(1) - ends.long() > 0", ".cumsum(1) > 0", "end-of-text comes after itself"),
        ("masked_fill(mask, 0)", "masked_fill(~mask, 0)", "what is inside the mask is outside"),
        ("& ~(mask & ends).any(1)", "", "a response that ended lost its end"),
    ),
    *twins(
        "doctor/checks",
        "normalisation",
        ("(counted > 1e-4)", "(counted > 1e4)", "raw logits pass"),
        ("exact_kl[mask] < -1e-5", "exact_kl[mask] < -1e5", "a negative exact KL passes"),
    ),
    *twins(
        "doctor/checks",
        "sign_of_kl",
        ("if z > -4:", "if z > 4:", "noise is never noise"),
        ("/ math.sqrt(len(per_response))", "", "the deviation of one response for that of the mean"),
        ("mean >= 0 or", "mean <= 0 or", "positive KL is wrong"),
    ),
]

SUSPECTS = [
    *twins(
        "doctor/suspects",
        "Ledger.best",
        ("<= SAME * self.distance", "<= self.distance", "a suspect that is no better gives the numbers"),
    ),
    *twins(
        "doctor/suspects",
        "Ledger._explains",
        ("self.misses[chain] > NEAR * self.distance", "False", "the sampler's own numbers are ignored"),
        ("gain <= CONVINCING", "False", "any gain convinces"),
        ("low <= gain <= high", "True", "a gain may be anything"),
    ),
    *twins(
        "doctor/suspects",
        "Ledger.has_recorded",
        ("PLAIN * self.tokens", "PLAIN", "a sampler that reports the policy itself is believed"),
    ),
    *twins(
        "doctor/suspects",
        "Suspects._add",
        ("(1 - _BLUR) * in_float64(ratio) + _BLUR", "in_float64(ratio)", "one impossible token ends a suspicion"),
        ("self.off - ratio.log()", "self.off + ratio.log()", "the recorded numbers have the other sign"),
    ),
    *twins(
        "doctor/suspects",
        "Suspects._add_cut",
        ("kept / mass", "kept * mass", "what is left is made smaller"),
        ("-mass.log()", "mass.log()", "a negative divergence"),
    ),
    *twins(
        "doctor/suspects",
        "Suspects._bans",
        ("self.longest - 1", "self.longest", "forced one place late"),
        ("ended / rare", "~ended / rare", "forced to write anything else"),
    ),
]

CAUSES = [
    *twins(
        "doctor/causes",
        "name_cause",
        ("first = ordered[0]", "first = symptoms[0]", "the first symptom, not the gravest"),
        ("absent is not None", "absent is None", "a ban is never named"),
    ),
    *twins(
        "doctor/causes",
        "explain",
        ("left <= tolerance and left < gap / 4", "left < gap", "the first toggle that helps a little"),
        ("(causes or {}).get(toggle.name, toggle.cause)", "toggle.cause", "a toggle means the same in each column"),
    ),
    *twins(
        "doctor/causes",
        "settle",
        ('replace(found, severity="error") if "fits" in found.evidence else found', "found", "a fit stays a warning"),
        ('random and found.evidence.get("test") in COMPARED', "False", "comparisons of random scores count"),
        ('found.id == "NK6" or not', "not", "what explains the comparisons is dropped with them"),
        ('"tests" in found.evidence and _is_void', "False and _is_void", "a fit stands beside the exact cause"),
        ("known and bare", "False", "symptoms are told beside their cause"),
        ('or "gap" in found.evidence', "", "a warning explains nothing"),
    ),
]

LIKENESS = [
    *twins(
        "doctor/likeness",
        "other_weights",
        ("share > 0.5", "share > 0.05", "noise has a direction"),
        ("(a * b).sum()) ** 2", "(a * b).sum())", "the other way round is not seen"),
    ),
    *twins(
        "doctor/likeness",
        "dropped",
        (
            'lines if column == "sampler_logprobs" else torch.zeros_like(lines)',
            "torch.zeros_like(lines)",
            "masks alike for a sampler",
        ),
        ("0.5 < float", "0 < float", "any smaller spread is dropout"),
        ("/ spread < 2", "/ spread < 20", "any larger spread is dropout"),
        ("len(recorded) < FEWEST", "False", "a handful of tokens is enough"),
        (">= ALIKE", ">= 100", "any ranks are uniform"),
    ),
    *twins(
        "doctor/likeness",
        "in_common",
        ("(between - within) / total", "between / total", "chance counts as common"),
        ("(size - 1) * within", "within", "the size of a group is lost"),
        ("max(0.0, ", "(", "less than nothing in common"),
    ),
]

SETTINGS = [
    *twins(
        "doctor/sampler_settings",
        "sampler_settings",
        ("HARMLESS[name][1](value) or", "False or", "neutral settings are wrong"),
        ("value is None or", "", "what is not set is wrong"),
        ('name == "top_k" and _may_hold_all(value, vocab, largest_id)', "False", "an unknown vocabulary is small"),
        ('name == "top_k" and _holds_all(value, vocab)', "False", "the whole vocabulary is a cut"),
        ("in _distinct(rows)", "in _distinct(rows[:1])", "the first response alone is judged"),
    ),
    *twins(
        "doctor/sampler_settings",
        "_temperature",
        ("value == 0 and", "value == 1 and", "greedy at temperature 1"),
        ("or value == scored", "", "the same temperature twice is wrong"),
        ("or scored is None", "", "an unknown temperature is wrong"),
    ),
]

WATCH = [
    *twins(
        "doctor/watch",
        "Watch.__call__",
        ("doubled and abs(recent.z or 0) <= WARN", "False", "what is small but persistent is never judged"),
        ("self.suspicious.discard(name)", "pass", "twice in a row need not be in a row"),
        ("elif recent.is_whole:", "elif True:", "a sum that is too small is thrown away"),
    ),
    *twins(
        "doctor/watch",
        "Watch._severity",
        ("abs(z) > STOP", "z > STOP", "negative deviations are never grave"),
        ("or name in self.suspicious", "", "twice is as once"),
    ),
]

DOCTOR_MUTANTS: list[Mutant] = [*STATISTICS, *EVENTS, *CHECKS, *SUSPECTS, *CAUSES, *LIKENESS, *SETTINGS, *WATCH]
