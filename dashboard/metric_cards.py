"""Metrics of a run in one strip, with their course over the run and the bands of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboard.components.metric_strip import Metric, metric_strip
from dashboard.data_source import query_or_error, run_page_query
from ockham.savings import SAVINGS_REASONS

# With fewer batches or evaluations a rate is not compared with its band. The same limits are in
# workbench.sql, bands.sql and `ockham train`.
MIN_BATCHES = 200
MIN_EVALUATIONS = 20


def percent(value: float | None, number_format: str = ".1%") -> str:
    """Return a rate as percent, or a dash for None."""
    return "-" if value is None else format(value, number_format)


def band_label(value: float | None, low: float | None, high: float | None, *, enough: bool) -> str | None:
    """Return a short text that compares a rate with its band, or None if there is no band.

    Args:
        value: The rate.
        low: Lower limit of the band.
        high: Upper limit of the band.
        enough: False if the run is too short for a comparison.

    """
    if value is None or low is None or high is None:
        return None
    band = f"{low * 100:.0f}-{high:.0%}"
    if not enough:
        return f"band {band}"
    return f"inside {band}" if low <= value <= high else f"outside {band}"


def band_sentence(band: dict[str, Any], kind: str) -> str | None:
    """Return a text that compares a rate with its band, or None if there is no band.

    Args:
        band: Row of the page query `run_bands`.
        kind: `update` or `accept`.

    """
    value, low, high = (band.get(f"{kind}_{name}") for name in ("rate", "low", "high"))
    if value is None or low is None or high is None:
        return None
    target = f"the policy's band of {low:.0%} to {high:.0%}"
    too_few_evaluations = kind == "accept" and band["evaluations"] < MIN_EVALUATIONS
    if band["batches"] < MIN_BATCHES or too_few_evaluations:
        return f"too little data to compare with {target}"
    return f"inside {target}" if low <= value <= high else f"outside {target}"


def first_row(name: str, run_id: str) -> dict[str, Any]:
    """Return the first row of a page query about a run, or {} if it has no rows."""
    result = query_or_error(run_page_query, name, run=run_id)
    return next(iter(result.rows()), {}) if result is not None else {}


def accept_label(summary: dict[str, Any]) -> tuple[str, str]:
    """Return label and value of the accept card: a count if it fits on a card, else a rate."""
    count = f"{summary['accepted']:,} of {summary['evaluations']:,}"
    return ("Accepted", count) if len(count) < 9 else ("Accept rate", percent(summary["accept_rate"]))


def metric_cards(run_id: str, summary: dict[str, Any]) -> None:
    """Show the metrics of a run in one strip.

    Args:
        run_id: ID of the run.
        summary: Row of the run in `run_summary`.

    """
    metric_strip(_build_metrics(run_id, summary), key=f"metrics-{run_id}")


def _build_metrics(run_id: str, summary: dict[str, Any]) -> list[Metric]:
    band = first_row("run_bands", run_id)
    oq = first_row("oq_gain", run_id)
    parts = _rows("sparklines", run_id)
    evaluations = _rows("evaluation_points", run_id)
    losses = _series(evaluations, "val_loss")
    drift = _series(parts, "drift")
    enough = summary["batches"] >= MIN_BATCHES
    update = band.get("update_rate"), band.get("update_low"), band.get("update_high")
    accept = band.get("accept_rate"), band.get("accept_low"), band.get("accept_high")
    best_loss = summary["best_val_loss"]
    enough_evaluations = enough and summary["evaluations"] >= MIN_EVALUATIONS
    gain_note = "in shadow mode" if oq.get("shadow") else "since the first"
    return [
        _rate_metric("Update rate", percent(update[0]), band_label(*update, enough=enough), parts),
        Metric(
            "Validation loss",
            "-" if summary["val_loss"] is None else f"{summary['val_loss']:.3f}",
            None if best_loss is None else f"best {best_loss:.3f}",
            losses,
            ".2f",
            help="nats/token",
        ),
        Metric("Drift", f"{drift[-1]:.3f}" if drift else "-", "from the anchor", drift, ".2f"),
        _rate_metric(
            *accept_label(summary), band_label(*accept, enough=enough_evaluations) or "by the memory"
        ),
        Metric("OQ gain", percent(oq.get("gain"), "+.1%"), gain_note, _series(evaluations, "gain"), ".0%"),
        Metric(
            "Compute saved",
            percent(summary["compute_saved"]),
            savings_note(summary),
            help="an estimate with its 95 % interval",
        ),
    ]


def _rate_metric(label: str, value: str, note: str | None, parts: Sequence[dict[str, Any]] = ()) -> Metric:
    outside = note is not None and note.startswith("outside")
    return Metric(label, value, note, _series(parts, "update_rate"), ".0%", warn=outside)


def savings_note(figures: dict[str, Any]) -> str:
    """Return the 95 % interval of the estimate, or why there is no estimate, as the note of a card."""
    low, high = figures.get("compute_saved_low"), figures.get("compute_saved_high")
    if low is not None and high is not None:
        return f"{100 * low:.1f} to {high:.1%}"
    if figures.get("compute_saved") is not None:
        return "estimate"
    return reason_label(figures.get("compute_saved_reason"))


def reason_label(reason: str | None) -> str:
    """Return the code of an unknown estimate as words."""
    return "unknown" if reason is None else reason.lower().replace("_", " ")


def savings_clause(figures: dict[str, Any]) -> str:
    """Return the saved compute as the last clause of a sentence, or why it is unknown. Empty for 0."""
    saved, reason = figures.get("compute_saved"), figures.get("compute_saved_reason")
    if saved:
        return f"; skipped batches saved {saved:.1%} of the compute (estimate)"
    return f"; the saved compute is unknown: {SAVINGS_REASONS[reason]}" if reason else ""


def _rows(name: str, run_id: str) -> list[dict[str, Any]]:
    result = query_or_error(run_page_query, name, run=run_id)
    return result.rows() if result is not None else []


def _series(rows: Sequence[dict[str, Any]], name: str) -> list[float] | None:
    return [row[name] for row in rows if row[name] is not None] or None
