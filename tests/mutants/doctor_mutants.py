"""Wrong twins of the doctor: its sums, checks and verdicts. Methods are named `Class.name`; see `mutants.py`."""

from __future__ import annotations

from mutants import Mutant, twins

DOCTOR_TESTS = {
    "doctor/statistics": ["test_doctor_statistics.py"],
    "doctor/events": ["test_events.py"],
    "doctor/checks": ["test_checks.py"],
    "doctor/sampler_settings": ["test_sampler_settings.py"],
    "doctor/likeness": ["test_causes.py", "test_likeness.py"],
    "doctor/suspects": ["test_suspects.py"],
    "doctor/samplers": ["test_samplers.py"],
    "doctor/causes": ["test_causes.py", "test_checks.py"],
    "doctor/watch": ["test_watch.py::TestPolicyOfAlarms", "test_watch.py::TestItGoesOn"],
    "doctor/columns": ["test_rollout_files.py"],
    "doctor/rollouts": ["test_rollout_files.py"],
    "doctor/audit": ["test_verdict.py"],
    "doctor/verdict": ["test_verdict.py"],
    "doctor/chart": ["test_verdict.py"],
    "doctor/health": ["test_health.py"],
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
        ("self.mask)[rows] & ", "self.mask)[rows] | ", "padding stands in the context"),
        ("self.counted if responses else self.mask", "self.mask", "the prompt is of the response"),
    ),
    *twins(
        "doctor/events",
        "closing",
        ("(columns - back)", "(columns - 1)", "the last token twice"),
        ("range(1, size)", "range(1, 2)", "a 2-gram is enough"),
        ("time - back", "time - back - 1 + 1 * (back > 1)", "the last token is not compared"),
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
        ("positions < EARLY", "positions >= EARLY", "late for early"),
        ("== self.longest - 1", "== self.longest - 2", "the last but one for the last"),
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
        ("_within(tolerance, mean", "_within(NUMERICAL, mean", "float32 gets the tolerance of anything"),
    ),
    *twins(
        "doctor/checks",
        "_within",
        ("abs(mean) <= tolerance.mean", "mean <= tolerance.mean", "a large negative gap is numerical"),
        ("largest <= tolerance.largest and", "", "one token may be anywhere"),
        ("p99 <= tolerance.p99 and", "", "every token may be off"),
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
        ("largest <= tolerance.largest", "largest <= 1e-5", "another batch is another reference"),
        ("exact_kl is None and not", "not", "an exact difference is rounding"),
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
        ("or float(k1.masked_fill(~mask, 0).abs().max()) <= FLOAT32.largest", "", "rounding has a sign"),
        ("/ math.sqrt(len(per_response))", "", "the deviation of one response for that of the mean"),
        ("mean >= 0 or", "mean <= 0 or", "positive KL is wrong"),
    ),
]

SUSPECTS = [
    *twins(
        "doctor/suspects",
        "Ledger.best",
        ("<= SAME * self.distance", "<= self.distance", "a suspect that is no better gives the numbers"),
        ("<= EXACT * self.distance", "<= self.distance", "near is exact"),
        ("same or", "True or", "any cause is as good as the one of largest gain"),
        ("same or", "", "weaker numbers of the cause are not looked at"),
        ("-self.gains[chain])", "self.gains[chain])", "the smallest gain comes first"),
    ),
    *twins(
        "doctor/suspects", "Ledger.has_recorded", ("PLAIN * self.tokens", "PLAIN", "who reports the policy is believed")
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
        "Ledger.settled",
        ("/ 4 else", "* 4 else", "two settings need not be nearer than one"),
        ("+ needed else", "else", "any second setting is taken along"),
        ("+ math.log(len(more.gains))", "", "many chains are as convincing as one"),
        ("len({found.cause for found in both.suspects}) == 1", "False", "two cuts are two causes"),
    ),
    *twins(
        "doctor/suspects",
        "fit_together",
        ("one.name != other.name and", "", "two numbers of a setting at once"),
        ("one.name not in alone and", "", "the reference is a setting like others"),
    ),
    *twins(
        "doctor/suspects",
        "Chains.__call__",
        ("self.most - self.ledger.tokens", "self.most", "every piece has the whole room"),
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
        ('"tests" in found.evidence and', "False and", "a fit stands beside the exact cause"),
        ("and not _is_apart(found)", "", "dropout of the file voids exact scoring"),
    ),
    *twins(
        "doctor/causes",
        "_is_void",
        ('reproduced and not found.evidence.get("exact", False)', "reproduced", "what gives the numbers is void"),
        ("random and not _is_apart(found)", "False", "what fits random scores is believed"),
    ),
    *twins(
        "doctor/causes",
        "settle",
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
    *twins(
        "doctor/likeness",
        "rounded",
        ("and in_step > IN_STEP", "", "as far off is rounding"),
        ("ROUNDED[0] < float", "0 < float", "much nearer is rounding"),
        ("< ROUNDED[1]", "< 1e9", "much farther is rounding"),
        ("* len(a) ** 0.5", "* 100", "a few tokens prove as much as many"),
    ),
]

SAMPLERS = [
    *twins(
        "doctor/samplers",
        "_changed",
        (
            "logits / one.number, logits * one.number",
            "logits * one.number, logits / one.number",
            "repetition is rewarded",
        ),
        ("logits > 0, logits", "logits < 0, logits", "the sign of a logit is not looked at"),
        ("(piece.drawn > 0)", "piece.drawn", "presence counts as often as it is"),
        ("one.number * piece.drawn", "one.number * (piece.drawn > 0)", "frequency counts once"),
        ("piece.positions < one.number", "piece.positions <= one.number", "a minimum length of one more"),
        ("one.number - 1)", "one.number)", "forced one place late"),
        ("forced & ~piece.ends", "forced & piece.ends", "forced to write anything else"),
    ),
    *twins(
        "doctor/samplers",
        "_other",
        ("< one.number).sum(1", "<= one.number).sum(1", "one token too many in the nucleus"),
        ("p < one.number * p.amax", "p > one.number * p.amax", "the likeliest are cut"),
        ("1 if one.name == GREEDY else", "", "greedy draws from all"),
        ("(logits + piece.ref_logits) / 2", "logits", "between is the policy"),
    ),
    *twins(
        "doctor/samplers",
        "drawn_by",
        ("key=lambda one: one.stage", "key=lambda one: -one.stage", "cuts come first"),
        ("one.stage >= 3 and not scaled", "False", "cuts before the temperature"),
        ("logits if scaled else logits / piece.temperature", "logits", "the temperature is lost"),
    ),
    *twins("doctor/samplers", "Piece.drawn", ("responses=True", "responses=False", "what was asked was drawn")),
]

FILES = [
    *twins(
        "doctor/columns",
        "check_row",
        ("not row[name]", "False", "empty ids pass"),
        ("name not in COLUMNS", "False", "unknown columns pass"),
        ("row.keys() != first.keys()", "False", "rows of other columns pass"),
    ),
    *twins(
        "doctor/columns",
        "_check_ids",
        ("isinstance(item, bool) or", "", "true is a token id"),
        ("0 <= item <= LARGEST_ID", "item <= LARGEST_ID", "ids below 0 pass"),
        ("0 <= item <= LARGEST_ID", "0 <= item", "ids of any size pass"),
    ),
    *twins(
        "doctor/columns",
        "_check_numbers",
        ("or len(value) != count", "", "lists of any length pass"),
        ("abs(item) > LARGEST_NUMBER", "False", "numbers that are no float pass"),
        ('name == "mask" or not isinstance(item, bool)', "True", "true is a log-probability"),
    ),
    *twins("doctor/columns", "_check_each", ("value not in accepted", "False", "half a mask passes")),
    *twins(
        "doctor/columns", "_check_special", ("not 0 <= item <= LARGEST_ID", "item > LARGEST_ID", "an end of −1 passes")
    ),
    *twins("doctor/columns", "_check_rest", ("or version != version", "", "a version that is not itself passes")),
    *twins(
        "doctor/rollouts",
        "of_rows",
        ("counted.flip(1).cummax(1).values.flip(1)", "counted", "a hole in a mask is an end"),
        ("(is_eos & before)", "is_eos", "an end far after the mask was written"),
        (
            "torch.isin(responses, torch.tensor(eos, dtype=torch.long))",
            "(responses == max(eos, default=-1))",
            "one end only",
        ),
    ),
    *twins("doctor/rollouts", "Rollouts.finite", ("line[self.written]", "line", "numbers beyond the end count")),
    *twins("doctor/rollouts", "Rollouts.initial", ("if marked", "", "every row is marked")),
    *twins("doctor/rollouts", "read_rollouts", ("len(rows) - len(counting)", "0", "rows are left out silently")),
    *twins(
        "doctor/sampler_settings",
        "sampler_settings",
        ("value in ([], {})", "False", "an empty list is a setting"),
        ("name not in HARMLESS or", "False or", "what is not known is passed over"),
        ('name == "top_k" and _holds_all(value, vocab)', "False", "a cut of nothing is a cut"),
    ),
    *twins("doctor/sampler_settings", "_holds_all", ("k >= vocab", "k > vocab", "a top-k of all tokens cuts")),
    *twins("doctor/sampler_settings", "_may_hold_all", ("k > largest_id", "False", "an unknown vocabulary is small")),
    *twins(
        "doctor/sampler_settings",
        "_temperature",
        ("math.isclose(value, scored, rel_tol=SAME)", "value == scored", "1e-7"),
    ),
    *twins("doctor/sampler_settings", "_is", ("isinstance(value, bool) == isinstance(one, bool)", "True", "1 is true")),
]

VERDICTS = [
    *twins(
        "doctor/audit",
        "audit",
        ("policy[first], reference[first], written[first]", "policy, reference, written", "all rows are the first"),
    ),
    *twins(
        "doctor/audit",
        "too_few",
        ("or tokens >= FEW_TOKENS", "", "long responses are too few"),
        ("responses >= FEW_RESPONSES", "responses > FEW_RESPONSES", "64 are too few"),
    ),
    *twins(
        "doctor/audit",
        "says_nothing",
        ("responses < TOO_FEW_RESPONSES or", "", "one response is enough"),
        ("or tokens < TOO_FEW_TOKENS", "", "a few tokens are enough"),
    ),
    *twins(
        "doctor/verdict",
        "Verdict.is_grave",
        ('finding.severity == "error"', "True", "a warning is grave"),
    ),
    *twins(
        "doctor/verdict",
        "Verdict.conclusion",
        ("if self.is_grave:", "if self.findings:", "a warning is to be mended"),
        ("if self.unjudged:", "if False:", "that nothing was judged is not said"),
    ),
    *twins(
        "doctor/verdict",
        "not_made",
        ("dict.fromkeys(TESTS, unfinished) if unfinished else AFTER_A_RUN", "AFTER_A_RUN", "unfinished is as finished"),
    ),
    *twins(
        "doctor/verdict", "Verdict.code", ("NOT_JUDGED if self.unjudged else HEALTHY", "HEALTHY", "nothing is healthy")
    ),
    *twins("doctor/chart", "outcome", ('return skipped or "passed"', 'return "passed"', "by construction is passed")),
    *twins(
        "doctor/chart",
        "Chart.take",
        ("by_severity([*self.results.get(test, []), *findings])", "findings", "a later pass undoes a failure"),
    ),
    *twins("doctor/chart", "Chart.load_state_dict", ("[: self.lines]", "", "lines of lost steps stay")),
    *twins("doctor/chart", "Chart._write", ("self.file.unlink(missing_ok=True)", "pass", "an older run's file stays")),
]

HEALTH = [
    *twins(
        "doctor/health",
        "_shrunk",
        ("recent >= share * first", "recent > share * first", "at the border"),
        ("values[:5]", "values[-5:]", "the last steps are the first"),
        ("len(values) < 8", "False", "a few steps are enough"),
    ),
    *twins(
        "doctor/health",
        "unexplained",
        ("max(values) < 0", "min(values) < 0", "once below 0 is enough"),
        ("late and", "", "the first fifty steps count"),
        ("len(values) < 10 or", "", "nine steps are enough"),
    ),
    *twins(
        "doctor/health", "repetitive", ("recent - first <= REPEATED", "recent <= REPEATED", "all repetition counts")
    ),
    *twins(
        "doctor/health",
        "outlandish",
        ("recent - first <= FOREIGN * mean(spread)", "recent <= FOREIGN * mean(spread)", "where it began is forgotten"),
        ("FOREIGN * mean(spread)", "FOREIGN", "one unit for every reward model"),
        ("max(mean(values[-3:])", "max(values[-1]", "one step is enough"),
        ('_values(rows, "score/sd")[:5]', '_values(rows, "score/sd")', "the spread of now"),
    ),
    *twins(
        "doctor/health",
        "falling",
        ("max(scores[:-2])", "scores[0]", "the first is the best"),
        ("max(scores[-2:])", "scores[-1]", "once is enough"),
    ),
    *twins(
        "doctor/health",
        "at_the_end",
        ("for name in COLLAPSE if name in last", "for name in sorted(last)", "training makes a policy unhealthy"),
        ('step > rows[-1]["step"] - ENDING', "True", "what has passed is held against it"),
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
    *twins(
        "doctor/watch",
        "Watch.load_state_dict",
        ('set(state["suspicious"])', "set()", "what was suspicious is forgotten"),
        ('state["rollouts"]', "0", "rollouts are counted anew"),
    ),
]

DOCTOR_MUTANTS: list[Mutant] = [
    *STATISTICS, *EVENTS, *CHECKS, *SUSPECTS, *SAMPLERS, *CAUSES, *LIKENESS, *FILES, *VERDICTS, *HEALTH, *WATCH,
]  # fmt: skip
