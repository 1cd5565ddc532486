"""Saved questions about decisions and checkpoints, recomputed from the lines with plain Python."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from tests.helpers.row_comparison import assert_rows
from tests.helpers.varied_runs import number

PULLED_FIELDS = ("raised_by", "lowered_by", "field")


def is_acceptance(made):
    return made["plugin"] == "memory" and made["action"] == "ACCEPT"


def ids(log):
    """Return (attempt, rank, sequence) -> event ID."""
    return {(e["data"]["attempt"], e["data"]["rank"], e["data"]["sequence"]): e["id"] for e in log.events}


def key(data):
    return data["attempt"], data["rank"], data["sequence"]


def test_decisions_by_reason_equal_log_lines(varied_catalog, plain_logs):
    """Decisions of rank 0 that no attempt superseded, with and without shadow."""
    expected = []
    names = ("plugin", "action", "reason_code", "shadow")
    for run_id, log in plain_logs.items():
        counts = Counter(tuple(d[name] for name in names) for d in log.counted("decision.made"))
        for values, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            expected.append({"run_id": run_id, **dict(zip(names, values, strict=True)), "n": n})
    assert_rows(varied_catalog.ask("decisions_by_reason").to_pylist(), expected)


def test_shadow_equals_log_lines(varied_catalog, plain_logs):
    """Only decisions of plugins in shadow."""
    expected = []
    names = ("plugin", "action", "reason_code")
    for run_id, log in plain_logs.items():
        groups = {}
        for made in log.counted("decision.made"):
            if made["shadow"]:
                groups.setdefault(tuple(made[name] for name in names), []).append(made["iter_num"])
        for values, iters in sorted(groups.items(), key=lambda i: (i[0][0], -len(i[1]), i[0][1:])):
            row = {"run_id": run_id, **dict(zip(names, values, strict=True)), "n": len(iters)}
            expected.append({**row, "first_iter": min(iters), "last_iter": max(iters)})
    rows = varied_catalog.ask("shadow").to_pylist()
    assert_rows(rows, expected)
    assert {row["run_id"] for row in rows} == {"observed"}


def test_actions_by_phase_equal_log_lines(varied_catalog, plain_logs):
    """Actions of acting plugins in each quarter of the planned steps."""
    expected = []
    for run_id, log in plain_logs.items():
        planned = max(batch["given"].get("max_iters", 0) for batch in log.batches())
        steps = max(planned, 1 + max(batch["iter_num"] for batch in log.batches()))
        groups = {}
        for made in log.decisions():
            quarter = min(made["iter_num"] * 4 // steps, 3) + 1
            groups.setdefault((quarter, made["plugin"]), {}).setdefault(made["action"], []).append(
                made["iter_num"]
            )
        for (quarter, plugin), actions in sorted(groups.items()):
            total = sum(map(len, actions.values()))
            for action, iters in sorted(actions.items(), key=lambda item: (-len(item[1]), item[0])):
                expected.append(
                    {
                        "run_id": run_id,
                        "quarter": quarter,
                        "plugin": plugin,
                        "action": action,
                        "n": len(iters),
                        "share_of_plugin": len(iters) / total,
                        "first_iter": min(iters),
                        "last_iter": max(iters),
                    }
                )
    rows = varied_catalog.ask("actions_by_phase").to_pylist()
    assert_rows(rows, expected)
    assert not [row for row in rows if row["run_id"] == "observed"]


def test_knob_conflicts_equal_log_lines(varied_catalog, plain_logs):
    """Pairs of changes of one knob in one batch, one up and one down."""
    expected = []
    for run_id, log in plain_logs.items():
        pulls = {}
        for made in log.decisions(lambda d: d["hook"].startswith("on_batch")):
            for change in made["changes"]:
                before, after = change["before"], change["after"]
                if isinstance(before, list) or before is None or after is None:
                    continue
                where = (change["field"], made["attempt"], made["iter_num"], made["micro_step"])
                pulls.setdefault(where, []).append((made["plugin"], number(before), number(after)))
        pairs = {}
        for (field, *batch), changes in pulls.items():
            for up, low, high in changes:
                for down, start, end in changes:
                    if high > low and end < start:
                        pair = pairs.setdefault((up, down, field), [])
                        pair.append(
                            (tuple(batch), high / low if low else None, end / start if start else None)
                        )
        for (up, down, field), found in pairs.items():
            ups = [item[1] for item in found if item[1] is not None]
            downs = [item[2] for item in found if item[2] is not None]
            expected.append(
                {
                    "run_id": run_id,
                    "field": field,
                    "raised_by": up,
                    "lowered_by": down,
                    "batches": len({item[0] for item in found}),
                    "first_iter": min(item[0][1] for item in found),
                    "last_iter": max(item[0][1] for item in found),
                    "median_up_factor": statistics.median(ups) if ups else None,
                    "median_down_factor": statistics.median(downs) if downs else None,
                }
            )
    expected.sort(key=lambda r: (r["run_id"], -r["batches"], r["field"], r["raised_by"], r["lowered_by"]))
    rows = varied_catalog.ask("knob_conflicts").to_pylist()
    assert_rows(rows, expected)
    assert ("puller", "halver", "learning_rate") in [
        tuple(row[name] for name in PULLED_FIELDS) for row in rows
    ]


def test_anchor_moves_equal_log_lines(varied_catalog, plain_logs):
    """One row per move. The requests of the micro-batches of a step, and shadow plugins, add none."""
    expected = []
    for run_id, log in plain_logs.items():
        names = ids(log)
        made = {names[key(d)]: d for d in log.decisions()}
        for moved in sorted(log.counted("anchor.consolidated"), key=lambda d: (d["iter_num"], d["sequence"])):
            decision = made.get(moved["decision_id"], {})
            expected.append(
                {
                    "run_id": run_id,
                    "attempt": moved["attempt"],
                    "iter_num": moved["iter_num"],
                    "drift": moved["drift"],
                    "val_loss": moved["val_loss"],
                    "snapshot_id": moved["snapshot_id"],
                    "plugin": decision.get("plugin"),
                    "reason_code": decision.get("reason_code"),
                    "decision_id": moved["decision_id"],
                }
            )
    rows = varied_catalog.ask("anchor_moves").to_pylist()
    assert_rows(rows, expected)
    assert "accumulated" in {row["run_id"] for row in rows}
    assert "observed" not in {row["run_id"] for row in rows}


def test_checkpoint_costs_equal_log_lines(varied_catalog, plain_logs):
    """Batches, steps and seconds per acceptance of a memory that acts."""
    expected = []
    for run_id, log in plain_logs.items():
        batches = log.batches()
        accepted = sum(map(is_acceptance, log.decisions()))
        evaluations = log.counted("evaluation.recorded")
        steps = len({b["iter_num"] for b in batches if b["applied"]["updated"]})
        seconds = math.fsum(s for b in batches for s in b["seconds"].values())
        seconds += math.fsum(e["seconds"] for e in evaluations)
        saved = [c for c in log.counted("checkpoint.saved") if c["kind"] == "accepted"]
        megabytes = sum(file["bytes"] for c in saved for file in c["files"]) / 1e6
        row = {
            "run_id": run_id,
            "accepted": accepted,
            "evaluations": len(evaluations),
            "batches": len(batches),
            "optimizer_steps": steps,
            "seconds": seconds,
            "megabytes": megabytes,
        }
        each = {"batches": len(batches), "steps": steps, "seconds": seconds, "megabytes": megabytes}
        expected.append(row | {f"{n}_each": v / accepted if accepted else None for n, v in each.items()})
    rows = varied_catalog.ask("checkpoint_costs").to_pylist()
    assert_rows(rows, expected)
    assert [row["accepted"] for row in rows if row["run_id"] == "observed"] == [0]


def test_superseded_work_equals_log_lines(varied_catalog, plain_logs):
    """Batches, decisions and seconds after the point from which a later attempt resumed."""
    log = plain_logs["resumed"]
    gone = [b for b in log.all("context.recorded") if b["hook"] == "batch" and log.is_superseded(b)]
    made = [d for d in log.all("decision.made") if log.is_superseded(d)]
    [resumed] = log.all("run.resumed")
    expected = {
        "run_id": "resumed",
        "attempt": 1,
        "resumed_by": 2,
        "resumed_at": resumed["iter_num"],
        "from_iter": min(b["iter_num"] for b in gone),
        "to_iter": max(b["iter_num"] for b in gone),
        "batches": len(gone),
        "decisions": len(made),
        "accepted": sum(map(is_acceptance, made)),
        "seconds": math.fsum(s for b in gone for s in b["seconds"].values()),
    }
    assert gone
    assert_rows(varied_catalog.ask("superseded_work").to_pylist(), [expected])


def test_near_misses_equal_log_lines(varied_catalog, plain_logs):
    """The smallest finite margins below the limit of the efficiency gate."""
    expected = []
    for run_id, log in plain_logs.items():
        names = ids(log)
        for made in log.decisions(lambda d: d["reason_code"] == "REJECTED_OQ_INSUFFICIENT"):
            numbers = {name: number(value) for name, value in made["numbers"].items()}
            gain = numbers["oq"] / numbers["oq_baseline"] - 1
            expected.append(
                {
                    "run_id": run_id,
                    "iter_num": made["iter_num"],
                    "oq_improvement": gain,
                    "oq_limit": numbers["efficiency_limit"],
                    "missing": numbers["efficiency_limit"] - gain,
                    "loss": numbers["loss"],
                    "decision_id": names[key(made)],
                }
            )
    expected = [row for row in expected if math.isfinite(row["missing"])]
    expected.sort(key=lambda row: (row["missing"], row["run_id"], row["iter_num"]))
    assert_rows(varied_catalog.ask("near_misses").to_pylist(), expected[:20])


def test_oq_trend_equals_log_lines(varied_catalog, plain_logs):
    """Each candidate against the first one. A memory in shadow accepts nothing."""
    rows = varied_catalog.ask("oq_trend").to_pylist()
    for run_id, log in plain_logs.items():
        made = [d for d in log.counted("decision.made") if d["plugin"] == "memory"]
        made.sort(key=lambda d: (d["attempt"], d["sequence"]))
        quotients = [number(d["numbers"].get("oq", "nan")) for d in made]
        first = next((quotient for quotient in quotients if math.isfinite(quotient)), math.nan)
        found = [row for row in rows if row["run_id"] == run_id]
        assert [row["occam_quotient"] for row in found] == quotients
        assert [row["iter_num"] for row in found] == [d["iter_num"] for d in made]
        assert [row["accepted"] for row in found] == [
            d["action"] == "ACCEPT" and not d["shadow"] for d in made
        ]
        for row, quotient in zip(found, quotients, strict=True):
            assert math.isclose(row["gain"], quotient / first - 1, abs_tol=1e-12)
    assert any(row["accepted"] for row in rows)


def test_uncited_equals_log_lines(varied_catalog, plain_logs):
    """Without decision records, every accepted checkpoint is uncited."""
    expected = [
        {
            "run_id": run_id,
            "iter_num": made["iter_num"],
            "decision_id": ids(log)[key(made)],
            "loss": number(made["numbers"]["loss"]),
        }
        for run_id, log in plain_logs.items()
        for made in sorted(log.decisions(is_acceptance), key=lambda d: d["iter_num"])
    ]
    assert_rows(varied_catalog.ask("uncited").to_pylist(), expected)


def test_unexplained_counts_only_changes_that_took_effect(tmp_path):
    """A plugin that changes a knob without a reason, once acting and once in shadow."""
    from ockham.catalog import Catalog
    from ockham.plugin import OccamPlugin
    from ockham.run import Run

    class Silent(OccamPlugin):
        name = "silent"

        def on_batch_start(self, ctx):
            ctx.learning_rate *= 0.5

    for run_id in ("acting", "shadow"):
        silent = Silent()
        silent.shadow = run_id == "shadow"
        with Run(plugins=[silent], runs=tmp_path, run_id=run_id) as run:
            for i in range(3):
                run.end_batch(run.start_batch(i, 2.0))
    assert Catalog(tmp_path).ask("unexplained").to_pylist() == [
        {
            "run_id": "acting",
            "plugin": "silent",
            "hook": "on_batch_start",
            "field": "learning_rate",
            "n": 3,
            "first_iter": 0,
        }
    ]


def test_why_skipped_tells_micro_batches_apart(varied_catalog, plain_logs):
    """All decisions of the iteration with their micro-batch, in the order of the log."""
    log = plain_logs["accumulated"]
    made = [d for d in log.all("decision.made") if d["iter_num"] == 10]
    rows = varied_catalog.ask("why_skipped", run="accumulated", iter=10).to_pylist()
    assert [(row["decision_id"], row["micro_step"]) for row in rows] == [
        (ids(log)[key(d)], d["micro_step"]) for d in made
    ]
    assert {row["micro_step"] for row in rows} == {0, 1, 2, 3}
    log = plain_logs["resumed"]
    number_of = len([d for d in log.all("decision.made") if d["iter_num"] == 40])
    rows = varied_catalog.ask("why_skipped", run="resumed", iter=40).to_pylist()
    assert len(rows) == number_of
    assert {(row["attempt"], row["superseded"]) for row in rows} == {(1, True), (2, False)}


def test_lineage_has_policy_that_was_in_force(varied_catalog, plain_logs):
    """A checkpoint of the first attempt has the policy of that attempt, not the present one."""
    log = plain_logs["resumed"]
    loaded = {data["attempt"]: data["policy_revision"] for data in log.all("policy.loaded")}
    assert loaded[1] != loaded[2]
    saved = list(log.all("checkpoint.saved"))
    for attempt in (1, 2):
        wanted = [data for data in saved if data["attempt"] == attempt]
        for data in wanted:
            rows = varied_catalog.ask("lineage", snapshot=data["snapshot_id"], run="resumed").to_pylist()
            rows = [row for row in rows if row["attempt"] == attempt]
            assert [row["policy_revision"] for row in rows] == [loaded[attempt]]
            assert rows[0]["decision_id"] == data["decision_id"]
            assert rows[0]["superseded"] == log.is_superseded(data)
        assert wanted
