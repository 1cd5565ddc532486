"""Arrow schemas of the catalog tables, so that empty tables are typed too."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

_TEXT: pa.DataType = pa.string()
_TEXTS: pa.DataType = pa.list_(pa.string())
_DOUBLE: pa.DataType = pa.float64()
_INT: pa.DataType = pa.int64()
_BOOL: pa.DataType = pa.bool_()
_DAY: pa.DataType = pa.date32()

RUNS = pa.schema(
    [
        ("run_id", _TEXT),
        ("created", pa.timestamp("us")),
        ("policy_revision", _TEXT),
        ("data", _TEXT),
        ("data_sha256", _TEXT),
        ("model_params", _INT),
        ("max_iters", _INT),
        ("seed", _INT),
        ("settings", _TEXT),
        ("user_name", _TEXT),
        ("host", _TEXT),
        ("python", _TEXT),
        ("platform", _TEXT),
        ("git_commit", _TEXT),
        ("git_changed", _BOOL),
        ("verifier_key", _TEXT),
    ]
)
POLICIES = pa.schema([("run_id", _TEXT), ("policy_revision", _TEXT), ("policy", _TEXT), ("content", _TEXT)])
PLUGIN_USES = pa.schema([("run_id", _TEXT), ("policy_revision", _TEXT), ("plugin", _TEXT), ("use", _TEXT)])
ATTEMPTS = pa.schema([("run_id", _TEXT), ("attempt", pa.int32())])
# Signed size of each log, and events of each run that no tree head covers.
LOG_SIZES = pa.schema([("run_id", _TEXT), ("attempt", pa.int32()), ("rank", pa.int32()), ("size", _INT)])
LEDGER_PEOPLE = pa.schema(
    [
        ("run_id", _TEXT),
        ("time", pa.timestamp("us", "UTC")),
        ("type", _TEXT),
        ("event_id", _TEXT),
        ("data", _TEXT),
        ("signed", pa.bool_()),
    ]
)
UNSIGNED = pa.schema([("run_id", _TEXT), ("unsigned_events", _INT)])
REASON_CODES = pa.schema([("plugin", _TEXT), ("reason_code", _TEXT), ("meaning", _TEXT)])
ODR_SCHEMAS: Mapping[str, pa.Schema] = {
    "odrs": pa.schema(
        [
            ("odr_id", _TEXT),
            ("title", _TEXT),
            ("status", _TEXT),
            ("date", _DAY),
            ("review_by", _DAY),
            ("owners", _TEXTS),
            ("tags", _TEXTS),
            ("supersedes", _TEXTS),
            ("superseded_by", _TEXTS),
            ("claimed_verdict", _TEXT),
            ("claimed_oq_delta", _DOUBLE),
            ("verdict", _TEXT),
            ("oq_delta", _DOUBLE),
            ("oq_delta_at", _TEXT),
            ("checked", _BOOL),
            ("attestation_id", _TEXT),
            ("waivers", _INT),
            ("waived_until", _DAY),
            ("errors", _INT),
            ("warnings", _INT),
            ("path", _TEXT),
            ("sha256", _TEXT),
        ]
    ),
    "odr_constraints": pa.schema(
        [
            ("odr_id", _TEXT),
            ("constraint_id", _TEXT),
            ("name", _TEXT),
            ("text", _TEXT),
            ("sql", _TEXT),
            ("op", _TEXT),
            ("threshold", _DOUBLE),
            ("tolerance", _DOUBLE),
            ("unit", _TEXT),
            ("min_n", _INT),
            ("severity", _TEXT),
            ("claimed_value", _DOUBLE),
            ("value", _DOUBLE),
            ("n", _INT),
            ("state", _TEXT),
            ("reason", _TEXT),
            ("judge", _TEXT),
            ("n_pairs", _INT),
            ("interval_low", _DOUBLE),
            ("interval_high", _DOUBLE),
            ("p_value", _DOUBLE),
        ]
    ),
    "odr_evidence": pa.schema(
        [
            ("odr_id", _TEXT),
            ("side", _TEXT),
            ("position", _INT),
            ("run_id", _TEXT),
            ("attempt", _INT),
            ("rank", _INT),
            ("through_sequence", _INT),
            ("root", _TEXT),
            ("decision_id", _TEXT),
        ]
    ),
    "ledger_events": pa.schema(
        [
            ("position", _INT),
            ("event_id", _TEXT),
            ("time", pa.timestamp("us")),
            ("type", _TEXT),
            ("odr_id", _TEXT),
            ("odr_sha256", _TEXT),
            ("verdict", _TEXT),
            ("data", _TEXT),
            ("signed", pa.bool_()),
        ]
    ),
    "odr_findings": pa.schema(
        [
            ("odr_id", _TEXT),
            ("constraint_id", _TEXT),
            ("code", _TEXT),
            ("severity", _TEXT),
            ("message", _TEXT),
            ("path", _TEXT),
            ("line", _INT),
            ("column", _INT),
            ("fixable", _BOOL),
        ]
    ),
}
LEDGER_COLUMNS = {
    "position": "position in the ledger, from 0",
    "event_id": "ID of the event (UUIDv7)",
    "time": "time when it was appended, UTC",
    "type": "CloudEvents type",
    "odr_id": "ID of the decision record; null if the event is about none",
    "odr_sha256": "digest of the record's file at that time",
    "verdict": "verdict of a check: KEEP, REVERT or INCONCLUSIVE",
    "data": "payload as JSON",
    "signed": "true if a tree head by the key of this machine covers the event; only such rows are evidence",
}
ODR_TABLE_DESCRIPTIONS = {
    "odrs": "one row per record, with its claims and the result of the newest `ockham odr check --attest`; "
    "null without one, or if the file changed since",
    "odr_constraints": "one row per constraint, with its query, its limit and its attested value, as in odrs",
    "ledger_events": "one row per event of the ledger: registrations, attested checks and replays, in order",
    "odr_evidence": "one row per run and cited decision, with its side, its index in the list of that side, "
    "and the event up to which its log is pinned",
    "odr_findings": "one row per finding of lint or check",
}
