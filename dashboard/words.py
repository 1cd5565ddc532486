"""Words of the pages: plain names of codes, headings of columns, and a glossary.

A page shows the plain name, and the code small next to it: `reason_name("BELOW_THRESHOLD")` is "loss
below the threshold". A code of a third-party plugin has no entry, so it is shown in lower case.
`glossary_line` shows terms whose definition appears when the pointer or the focus is on them. All text in
this module is constant, so it may be read as Markdown or HTML. Names of other codes are untrusted text.
"""

from __future__ import annotations

import html

import streamlit as st

REASON_NAMES = {
    "NONFINITE_LOSS": "loss is not a number",
    "NONFINITE_GRADIENT": "gradient is not a number",
    "NONFINITE_DRIFT": "drift is not a number",
    "NONFINITE_KL": "KL divergence is not a number",
    "NONFINITE_IN_A_ROW": "too many values in a row that are not numbers",
    "LOSS_SPIKE": "loss spike",
    "GRADIENT_SPIKE": "gradient spike",
    "AFTER_SPIKE": "smaller steps after a spike",
    "SPIKES_IN_A_ROW": "too many spikes in a row",
    "LOSS_OVER_CAP": "loss above its cap for too long",
    "NO_IMPROVEMENT": "too many evaluations without a better loss",
    "SURPRISING": "loss above the threshold",
    "BELOW_THRESHOLD": "loss below the threshold",
    "WARMUP": "warm-up always updates",
    "FORCED_UPDATE": "too many skips in a row",
    "RANDOM_UPDATE": "random update",
    "RANDOM_SKIP": "random skip",
    "NEVER_SKIPS": "threshold too low to skip",
    "NEVER_UPDATES": "threshold too high to update",
    "EXAMPLES_WEIGHED": "examples weighted by loss",
    "EASY_BAND": "easy batch",
    "MEDIUM_BAND": "medium batch",
    "HARD_BAND": "hard batch",
    "NOISE_ON_LEARNING_RATE": "noise on the learning rate",
    "NOISE_ON_GRADIENT": "noise on the gradient",
    "COMPRESSING": "drift too high",
    "RELEASING": "drift low again",
    "MAKEUP": "drift low",
    "LEARNING_RATE_CAPPED": "learning rate capped",
    "LAMBDA_CAPPED": "lambda capped",
    "GRADIENT_CAPPED": "limit of the gradient norm lowered",
    "DRIFT_CAPPED": "limit of the drift lowered",
    "GRADIENT_CLIPPED": "gradient clipped",
    "DRIFT_PROJECTED": "weights moved back to the drift limit",
    "DRIFT_NOT_PROJECTED": "drift over the limit, not corrected",
    "DRIFT_OVER_CEILING": "drift over the limit",
    "KL_OVER_WARN": "output differs from the anchor: warning",
    "KL_OVER_ROLLBACK": "output differs from the anchor: rolled back",
    "KL_OVER_HALT": "output differs from the anchor: run ended",
    "KL_CLEAR": "output is close to the anchor again",
    "REFUSED_WATCHDOG": "anchor kept: watchdog alarm",
    "ACCEPTED_FIRST_VALID": "accepted: first valid candidate",
    "ACCEPTED_OQ_IMPROVEMENT": "accepted: enough gain",
    "REJECTED_NONFINITE": "rejected: a value is not a number",
    "REJECTED_QUALITY": "rejected: loss too high",
    "REJECTED_COMPLEXITY": "rejected: drift too high",
    "REJECTED_OQ_INSUFFICIENT": "rejected: too little gain",
    "REJECTED_INCOMPARABLE": "rejected: quotients cannot be compared",
    "REJECTED_NO_COST": "rejected: cost unknown",
    "REJECTED_NO_PERFORMANCE": "rejected: not better than guessing",
    "INVALID_BASELINE": "rejected: baseline has no valid quotient",
    "WARMUP_ENDED": "anchor change requested: warm-up ended",
    "INTERVAL_REACHED": "anchor change requested: interval reached",
    "CONSOLIDATION_ALLOWED": "anchor change allowed: loss not worse",
    "REFUSED_NONFINITE": "anchor kept: a value is not a number",
    "REFUSED_QUALITY": "anchor kept: loss is worse",
    "REFUSED_COOLDOWN": "anchor kept: the last change is too recent",
    "UNEXPLAINED": "no reason given",
}
# Gate of the memory that ended the evaluation of a candidate -> outcome of the candidate.
OUTCOME_NAMES = {
    "accepted": "accepted",
    "efficiency": "rejected: too little gain",
    "complexity": "rejected: drift too high",
    "quality": "rejected: loss too high",
    "finite": "rejected: a value is not a number",
    "baseline": "rejected: baseline has no valid quotient",
}
ACTION_NAMES = {
    "ATTACK": "smaller steps",
    "RELEASE": "back to normal steps",
    "MAKEUP": "larger steps",
    "CLAMP": "cap",
    "HALT": "end the run",
    "PERTURB": "add noise",
    "PROJECT": "move weights back",
    "ROLLBACK": "roll back",
}
KNOB_NAMES = {
    "learning_rate": "learning rate",
    "lambda_ockham": "lambda",
    "grad_clip": "limit of the gradient norm",
    "drift_ceiling": "drift limit",
    "surprise_threshold": "gate threshold",
    "grad_noise_std": "gradient noise",
    "example_gain": "weight of an example",
    "consolidating": "anchor change",
}
# Kind of an event of a person, see the view `people` -> name.
PERSON_EVENT_NAMES = {
    "note.added": "note",
    "intervention.applied": "changed settings",
    "stop.requested": "stop",
    "checkpoint.approved": "approval of weights",
    "waiver.granted": "waiver",
    "request.refused": "refused request",
}
HOOK_NAMES = {
    "on_batch_start": "before the update",
    "on_batch_end": "after the update",
    "on_evaluate": "evaluation",
    "on_consolidate": "change of the anchor",
}
STATE_NAMES = {
    "COMPLETED": "completed",
    "UNFINISHED": "not finished",
    "HALTED_BY_POLICY": "ended by the policy",
    "NO_ANCHOR": "ended: no anchor to roll back to",
    "INTERRUPTED": "interrupted",
    "FAILED": "failed",
    "PLUGIN_FAILED": "a plugin failed",
    "RANK_DIVERGED": "ranks decided differently",
    "RANK_LOST": "a rank was lost",
}
# Column of a table -> heading and, if the heading is not enough, its meaning.
COLUMN_NAMES = {
    "accept_rate": ("accept rate", "accepted evaluations / evaluations with a finite loss"),
    "all_iterations": ("all iterations", "length of the whole run"),
    "accepted": ("accepted", "evaluations whose weights were accepted"),
    "action": ("action", "what the plugin did"),
    "approved_by": ("approved by", "people who approved the weights; the page Run names their keys"),
    "attention": ("needs attention", ""),
    "batches": ("batches", ""),
    "best_val_loss": ("best loss", "lowest validation loss, nats per token"),
    "candidates": ("candidates", ""),
    "changes": ("changes", "knobs that the plugin changed"),
    "claimed_oq_delta": ("claimed OQ change", ""),
    "claimed_verdict": ("claimed verdict", ""),
    "compute_saved": ("compute saved", "estimated share of the compute of always updating"),
    "compute_saved_high": ("saved, at most", "upper end of the 95 % interval"),
    "compute_saved_low": ("saved, at least", "lower end of the 95 % interval"),
    "compute": ("compute", "forward passes; a backward pass and an optimizer step count their mean time"),
    "compute_money_saved": ("money saved", "device hours saved x price"),
    "compute_saved_to_floor": ("saved to the floor", "1 - compute up to the floor / that of the baseline"),
    "compute_saved_to_floor_high": ("at most", "upper end of the 95 % interval of the mean"),
    "compute_saved_to_floor_low": ("at least", "lower end of the 95 % interval of the mean"),
    "created": ("started", "UTC"),
    "device_hours_saved": ("device hours saved", "estimate from skipped passes, all ranks"),
    "equal_loss": ("best loss", "lowest validation loss up to the common length, nats per token"),
    "cut_bytes": ("bytes cut", ""),
    "data": ("data", "name of the training data"),
    "decision_id": ("decision", ""),
    "drift_limit": ("drift limit", ""),
    "evaluations": ("evaluations", ""),
    "failed_gate": ("rejected because", "gate of the memory at which the candidate failed"),
    "file_name": ("file", ""),
    "file_state": ("state of the file", "result of the last verification for this file"),
    "first_iter": ("first iteration", ""),
    "from_iter": ("from iteration", ""),
    "git_commit": ("commit", ""),
    "highest": ("highest value", ""),
    "hook": ("when", "call of the chain"),
    "iter": ("iteration", ""),
    "iter_num": ("iteration", "index of the optimizer step, from 0"),
    "iterations": ("iterations", "iterations up to the common length"),
    "last_iter": ("last iteration", ""),
    "last_note": ("last note", "newest note of a person"),
    "loss_limit": ("loss limit", ""),
    "megabytes": ("MB", "1e6 bytes"),
    "margin": ("margin", "observed value - threshold"),
    "meaning": ("meaning", ""),
    "micro_step": ("micro-step", "micro-batch within the iteration"),
    "missing": ("missing", ""),
    "n": ("decisions", ""),
    "nonfinite": ("not finite", "batches whose loss is not a number"),
    "observed": ("value", "value that the plugin compared"),
    "name": ("second name", "given by `ockham rename`"),
    "odr_id": ("record", ""),
    "oq_improvement": ("gain", "change of the Occam Quotient relative to the baseline"),
    "oq_limit": ("gain needed", ""),
    "person_event": ("what", "what the person did"),
    "plugin": ("plugin", ""),
    "reason": ("reason", ""),
    "records": ("cited by", "decision records that cite the decision"),
    "reason_code": ("code", "stable code of the reason, as the log contains it"),
    "run_id": ("run", ""),
    "sequence": ("event", "position of the event in its log"),
    "shadow": ("shadow", "the plugin decided, but changed nothing"),
    "sha256": ("SHA-256", "digest of the file"),
    "share": ("share", ""),
    "skipped_batches": ("skipped batches", ""),
    "snapshot_id": ("checkpoint", ""),
    "state": ("state", ""),
    "threshold": ("threshold", ""),
    "through_sequence": ("up to event", ""),
    "to_iter": ("to iteration", ""),
    "unsigned_events": ("unsigned events", "events that no tree head covers; no figure counts them"),
    "update_rate": ("update rate", "updated batches / batches with a finite loss"),
    "val_loss": ("loss", "last validation loss, nats per token"),
    "waived_until": ("waived until", ""),
    "weights_sha256": ("SHA-256 of the weights", ""),
    "verifier_key": ("signed by", "verifier key of the person"),
    "what": ("what", ""),
}
RUNS_QUESTION = "Which runs are better, and what did they save?"
# The same text as in docs/glossary.md.
GLOSSARY = {
    "accept rate": "accepted evaluations / evaluations with a finite loss",
    "anchor weights": "reference weights from which drift is measured",
    "band": "interval of a rate that a policy is calibrated for",
    "batch": (
        "one set of examples that passes through the model; in the log it has an iteration and a micro-step"
    ),
    "chain": "runs the plugins of a policy in order, and attributes each knob change to one plugin",
    "checkpoint": (
        "saved weights; kinds are accepted, resume, rollback, anchor and trainer (written by another library)"
    ),
    "constraint": "SQL query over the evidence, with an operator and a threshold",
    "decision": "a knob change, or an accept or reject result, of one plugin, with a reason code",
    "decision record (ODR)": (
        "Occam Decision Record: Markdown file with a decision, its evidence and constraints"
    ),
    "drift": "relative distance of the weights from the anchor weights, over the matrices",
    "hook": "method of a plugin that the chain calls, for example `on_batch_start`",
    "iteration": "index of an optimizer step, from 0",
    "knob": "setting that plugins may change for one batch",
    "lambda": "strength of the pull towards the anchor weights",
    "loss": "mean cross-entropy in nats per token",
    "Occam Quotient (OQ)": "performance / (FLOPs x MB); only compared relative to a baseline",
    "pin": "copy of tree heads that is stored in another place",
    "plugin": "Python class that changes knobs and gives reasons",
    "policy": "which plugins run, in which order, with which settings; a YAML file",
    "preset": "a policy that is shipped with Ockham",
    "reason code": "stable word in capitals that states why, for example `BELOW_THRESHOLD`",
    "replay": "compute all decisions again from recorded contexts, and compare",
    "rollback": "the weights are set back to the anchor weights",
    "segment": "one file of a log, with up to 20,000 events",
    "shadow": "a plugin in shadow decides and is logged, but changes nothing",
    "tree head": "signed size and root hash of a log; its file is called `checkpoint` by C2SP",
    "update rate": "updated batches / batches with a finite loss",
    "update, skip": (
        "a batch changes the weights, or does not; a skip has no backward pass and no optimizer step"
    ),
    "verdict": "KEEP, REVERT or INCONCLUSIVE; computed from the constraints",
    "verify": "check lines, tree, signatures and derived files of a run",
}


def plain_name(code: str, names: dict[str, str]) -> str:
    """Return the name of a code. A code without a name is returned in lower case, without underscores."""
    return names.get(code) or code.lower().replace("_", " ")


def reason_name(code: str) -> str:
    """Return the plain name of a reason code, such as "loss below the threshold"."""
    return plain_name(code, REASON_NAMES)


def action_name(action: str) -> str:
    """Return the plain name of an action, such as "skip" or "smaller steps"."""
    return plain_name(action, ACTION_NAMES)


def knob_name(knob: str) -> str:
    """Return the plain name of a knob, such as "limit of the gradient norm"."""
    return plain_name(knob, KNOB_NAMES)


def person_event_name(kind: str) -> str:
    """Return the plain name of what a person did, such as "approval of weights"."""
    return plain_name(kind, PERSON_EVENT_NAMES)


def gate_name(gate: str) -> str:
    """Return why a gate of the memory rejects a candidate, such as "too little gain"."""
    return outcome_name(gate).removeprefix("rejected: ")


def outcome_name(outcome: str) -> str:
    """Return the plain name of the outcome of a candidate, such as "rejected: loss too high"."""
    return plain_name(outcome, OUTCOME_NAMES)


def hook_name(hook: str) -> str:
    """Return the plain name of a hook, such as "before the update"."""
    return plain_name(hook, HOOK_NAMES)


def state_name(state: str) -> str:
    """Return the plain name of the state of a run, such as "ended by the policy"."""
    return plain_name(state, STATE_NAMES)


def column_heading(name: str) -> str:
    """Return the heading of a column of a table."""
    return COLUMN_NAMES.get(name, ("",))[0] or name.replace("_", " ")


def column_help(name: str) -> str | None:
    """Return the meaning of a column, or None if its heading is enough."""
    return COLUMN_NAMES.get(name, ("", ""))[1] or None


def glossary_line(*terms: str) -> None:
    """Show terms of the glossary in one line. The definition appears on hover and on keyboard focus.

    Args:
        terms: Keys of `GLOSSARY`.

    """
    items = " ".join(
        f'<span class="ockham-term" tabindex="0" data-meaning="{html.escape(GLOSSARY[term])}">'
        f"{html.escape(term)}</span>"
        for term in terms
    )
    st.html(f'<p class="ockham-terms" aria-label="Glossary">Terms: {items}</p>')
