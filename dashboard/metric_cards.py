"""Metric cards: six metrics of a run, with their course over the run and the bands of the policy."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query
from ockham.savings import SAVINGS_REASONS

# Six cards fit side by side on a laptop, two on a phone.
CARD_WIDTH = 146
# With fewer batches or evaluations a rate is not compared with its band. The same limits are in
# attention.sql, bands.sql and `ockham train`.
MIN_BATCHES = 200
MIN_EVALUATIONS = 20


class MetricCard(NamedTuple):
    """Content of one card."""

    label: str
    value: str
    series: list[float] | None
    note: str | None


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
    """Show the metric cards of a run, side by side as far as the screen allows.

    Args:
        run_id: ID of the run.
        summary: Row of the run in `run_summary`.

    """
    with st.container(horizontal=True):
        for card in _build_cards(run_id, summary):
            outside = card.note is not None and card.note.startswith("outside")
            st.metric(
                card.label,
                card.value,
                card.note,
                delta_color="red" if outside else "off",
                delta_arrow="off",
                chart_data=card.series,
                border=True,
                height="stretch",
                width=CARD_WIDTH,
            )
    st.caption(
        "Loss in nats/token. Accepted: checkpoints accepted by the memory, of all evaluations. "
        "Compute saved: an estimate with its 95 % interval."
    )


def _build_cards(run_id: str, summary: dict[str, Any]) -> list[MetricCard]:
    band = first_row("run_bands", run_id)
    oq = first_row("oq_gain", run_id)
    parts = _rows("sparklines", run_id)
    evaluations = _rows("evaluation_points", run_id)
    losses = _series(evaluations, "val_loss")
    drift = _series(parts, "drift")
    enough = summary["batches"] >= MIN_BATCHES
    update = band.get("update_rate"), band.get("update_low"), band.get("update_high")
    accept = band.get("accept_rate"), band.get("accept_low"), band.get("accept_high")
    accept_note = band_label(*accept, enough=enough and summary["evaluations"] >= MIN_EVALUATIONS)
    best_loss = summary["best_val_loss"]
    return [
        MetricCard(
            "Update rate",
            percent(update[0]),
            _series(parts, "update_rate"),
            band_label(*update, enough=enough),
        ),
        MetricCard(
            "Validation loss",
            f"{losses[-1]:.3f}" if losses else "-",
            losses,
            None if best_loss is None else f"best {best_loss:.3f}",
        ),
        MetricCard("Drift", f"{drift[-1]:.3f}" if drift else "-", drift, "from the anchor"),
        MetricCard(*accept_label(summary), None, accept_note),
        MetricCard(
            "OQ gain",
            percent(oq.get("gain"), "+.1%"),
            _series(evaluations, "gain"),
            "in shadow mode" if oq.get("shadow") else "since the first",
        ),
        MetricCard("Compute saved", percent(summary["compute_saved"]), None, savings_note(summary)),
    ]


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


def _series(rows: list[dict[str, Any]], name: str) -> list[float] | None:
    return [row[name] for row in rows if row[name] is not None] or None
