"""A run in six figures: each with its course, and with what the policy promised of it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.data_source import query_or_error, run_page_query

WIDTH = 146  # six of them side by side on a laptop, two on a phone
BATCHES, EVALUATIONS = 200, 20  # a rate of fewer says nothing: attention.sql, bands.sql, `ockham train` too


def percent(value: float | None, form: str = ".1%") -> str:
    """A share, or a dash."""
    return "-" if value is None else format(value, form)


def band_label(value: float | None, low: float | None, high: float | None, *, enough: bool) -> str | None:
    """Where a rate lies in the band that its policy promises; of few batches it lies outside by chance alone."""
    if value is None or low is None or high is None:
        return None
    if not enough:
        return f"band {low * 100:.0f}-{high:.0%}"
    return f"{'inside' if low <= value <= high else 'outside'} {low * 100:.0f}-{high:.0%}"


def band_sentence(band: dict[str, Any], of: str) -> str | None:
    """The same in words, of a row of `bands_of`, for `update` or `accept`; None where nothing is promised."""
    value, low, high = (band.get(f"{of}_{name}") for name in ("rate", "low", "high"))
    if value is None or low is None or high is None:
        return None
    promised = f"the promised {low:.0%} to {high:.0%}"
    if band["batches"] < BATCHES or (of == "accept" and band["evaluations"] < EVALUATIONS):
        return f"too few to judge against {promised}"
    return f"{'inside' if low <= value <= high else 'outside'} {promised}"


def first_row(name: str, run_id: str) -> dict[str, Any]:
    """The one row of a page query about a run; {} where it has none."""
    found = query_or_error(run_page_query, name, run=run_id)
    return next(iter(found.rows()), {}) if found is not None else {}


def accept_label(summary: dict[str, Any]) -> tuple[str, str]:
    """Label and value: as a count where that fits on a card."""
    said = f"{summary['accepted']:,} of {summary['evaluations']:,}"
    return ("Kept", said) if len(said) < 9 else ("Accept rate", percent(summary["accept_rate"]))


def metric_cards(run_id: str, summary: dict[str, Any]) -> None:
    """Update rate, validation loss, drift, checkpoints, OQ, compute; side by side as far as the screen goes.

    Args:
        run_id: the run.
        summary: its row of `run_summary`.

    """
    band, oq = first_row("run_bands", run_id), first_row("oq_gain", run_id)
    sparks = query_or_error(run_page_query, "sparklines", run=run_id)
    evaluated = query_or_error(run_page_query, "evaluation_points", run=run_id)
    parts = sparks.rows() if sparks is not None else []
    judged = evaluated.rows() if evaluated is not None else []

    def series(rows: list[dict[str, Any]], name: str) -> list[float] | None:
        return [row[name] for row in rows if row[name] is not None] or None

    drift, losses = series(parts, "drift"), series(judged, "val_loss")
    rate = band.get("update_rate"), band.get("update_low"), band.get("update_high")
    enough = summary["batches"] >= BATCHES
    kept = band.get("accept_rate"), band.get("accept_low"), band.get("accept_high")
    shown: tuple[tuple[str, str, list[float] | None, str | None], ...] = (
        ("Update rate", percent(rate[0]), series(parts, "update_rate"), band_label(*rate, enough=enough)),
        ("Validation loss", f"{losses[-1]:.3f}" if losses else "-", losses, None if summary["best_val_loss"] is None else f"best {summary['best_val_loss']:.3f}"),
        ("Drift", f"{drift[-1]:.3f}" if drift else "-", drift, "from the anchor"),
        (*accept_label(summary), None, band_label(*kept, enough=enough and summary["evaluations"] >= EVALUATIONS)),
        ("OQ gain", percent(oq.get("gain"), "+.1%"), series(judged, "gain"), "in shadow" if oq.get("shadow") else "over first kept"),
        ("Compute saved", percent(summary["compute_saved"]), None, "measured" if summary["compute_saved"] is not None else "known at its end"),
    )  # fmt: skip
    with st.container(horizontal=True):
        for label, value, drawn, said in shown:
            st.metric(
                label, value, said, delta_color="red" if said and said.startswith("outside") else "off", delta_arrow="off",
                chart_data=drawn, border=True, height="stretch", width=WIDTH,
            )  # fmt: skip
    st.caption("Loss in nats/token. Kept: checkpoints that memory accepted, of all evaluations.")
