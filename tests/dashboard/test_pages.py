"""Pages of the dashboard on normal, missing, damaged and hostile runs, and with invalid URLs."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import shutil
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dashboard import run_panels
from dashboard.chart_kinds import CHART_KINDS, QUERY_LABELS
from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.record.ledger import append_entry
from ockham.record.parquet.coverage import sidecar_path
from ockham.record.requests import event_fields
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.run import Run
from tests.helpers.damaged_runs import append_invalid_line
from tests.helpers.log_edits import sign_log
from tests.helpers.requests import ask, signed_request
from tests.helpers.runs import make_run

PAGES = (
    "runs",
    "run",
    "decision",
    "gate",
    "control",
    "memory",
    "odr",
    "sql",
    "integrity",
    "checkpoints",
    "search",
)
pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    make_run(folder, "first", nan_at=50)
    make_run(folder, "second", batches=40)
    return folder


def component_messages(test, name):
    """Return the data of all components of a kind."""
    found = [element.proto for element in test.get("bidi_component")]
    return [json.loads(proto.json) for proto in found if proto.component_name == f"ockham_{name}"]


@pytest.mark.parametrize("page", CHART_KINDS)
def test_each_query_below_the_chart_of_a_run_is_named(open_page, runs, page):
    """Several lines with a number of rows do not tell what the rows are."""
    test = open_page(runs, page)
    captions = [caption.value for caption in test.caption]
    for name in CHART_KINDS[page].queries:
        # Without rows there is no line.
        found = [text for text in captions if text.startswith(f"{QUERY_LABELS[name]}: ")]
        assert len(found) == (name != "served_bins")


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_question_and_answer(open_page, runs, page):
    """The page has a title, one sentence as the answer, and no error."""
    test = open_page(runs, page)
    assert not test.exception
    assert not test.error
    assert test.title[0].value.endswith(("?", "."))
    assert test.text[0].value


@pytest.mark.parametrize("page", PAGES)
def test_page_without_runs_shows_no_error(open_page, tmp_path, page):
    """Without runs every page is shown without an error."""
    test = open_page(tmp_path / "nowhere", page)
    assert not test.exception
    assert not test.error


@pytest.mark.parametrize("page", ["run", "memory"])
def test_page_lists_what_people_did(open_page, tmp_path, page):
    """A note of a live run, and one in the ledger."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        ask(run.folder, "NOTE", iter_num=1)
        for iter_num in range(4):
            run.end_batch(run.start_batch(iter_num, 3.0))
    append_entry(tmp_path, *event_fields(signed_request(run.folder, "NOTE")))
    test = open_page(tmp_path, page, run="a")
    assert not test.exception
    people = next(table.value for table in test.dataframe if "recorded_in" in table.value.columns)
    assert list(people["recorded_in"]) == ["log", "ledger"]
    assert set(people["person"]) == {"alice"}


def test_decision_page_names_who_approved_the_weights(open_page, tmp_path):
    """Only the decision that accepted these weights lists the approval."""
    run = make_run(tmp_path)
    saved = Catalog(tmp_path).rows("select * from checkpoints where kind = 'accepted'")[0]
    approval = {"target": saved["snapshot_id"], "digest": saved["weights_sha256"]}
    append_entry(tmp_path, *event_fields(signed_request(run.folder, "APPROVE", **approval)))
    test = open_page(tmp_path, "decision", run="a", decision=saved["decision_id"])
    assert not test.exception
    people = next(table.value for table in test.dataframe if "recorded_in" in table.value.columns)
    assert list(people["person_event"]) == ["approval of weights"]
    other = Catalog(tmp_path).rows("select decision_id from gate_decisions where iter_num = 1")[0]
    test = open_page(tmp_path, "decision", run="a", decision=other["decision_id"])
    assert not any("recorded_in" in table.value.columns for table in test.dataframe)


def test_answer_is_about_the_selected_run(open_page, runs):
    """The sentence contains values of the selected run."""
    assert "second" in open_page(runs, "run", run="second").text[0].value
    assert "40 batches" in open_page(runs, "run", run="second").text[0].value
    rate = Catalog(runs).rows("select update_rate from run_summary where run_id = 'first'")[0]["update_rate"]
    assert f"{rate:.1%} of the finite batches" in open_page(runs, "gate", run="first").text[0].value


INVALID_RUN_IDS = ("nope", "../../etc/passwd", "<script>alert(1)</script>", "x" * 300, "=cmd()", "**bold**")


@pytest.mark.parametrize(
    ("page", "name"),
    [*(("gate", name) for name in INVALID_RUN_IDS), ("run", "nope"), ("integrity", "../../etc")],
)
def test_unknown_run_in_url_shows_error_and_no_other_run(open_page, runs, page, name):
    """The page shows an error, and the value of the URL as code, not as markup."""
    test = open_page(runs, page, run=name)
    assert not test.exception
    assert test.error
    assert test.code[0].value == name[:300]
    assert [title.value for title in test.title] == ["Run not found"]


def test_decision_url_shows_sentence_chain_and_provenance(open_page, runs):
    """The page shows one sentence, all decisions of the batch, and the provenance."""
    row = Catalog(runs).rows(
        "select * from gate_decisions where run_id = 'first' and action = 'SKIP' limit 1"
    )[0]
    test = open_page(runs, "decision", decision=row["decision_id"])
    expected = f"Iteration {row['iter_num']}: gate decided: skip. Reason: loss below the threshold. The value"
    assert test.text[0].value.startswith(expected)
    [codes] = [block.proto.body for block in test.get("html") if 'class="ockham-codes"' in block.proto.body]
    assert "<code>SKIP</code> <code>BELOW_THRESHOLD</code>" in codes
    provenance, command = (
        next(code for code in test.code if word in code.value) for word in ("decision   ", "ockham prove")
    )
    # Without wrapping, a phone would show half of each ID.
    assert provenance.proto.wrap_lines
    assert command.proto.wrap_lines
    assert any("on the other side if the threshold were" in text.value for text in test.text)
    missing = open_page(runs, "decision", decision="00000000-0000-7000-8000-000000000000")
    assert "was not found" in missing.text[0].value


def lie_in_parquet(folder, row):
    """Change a decision in its Parquet file, with the digest in the sidecar."""
    path = next((folder.path / "decisions").rglob("*.parquet"))
    table = pq.read_table(path)
    ids = table.column("event_id").to_pylist()
    actions = table.column("action").to_pylist()
    actions[ids.index(row["decision_id"])] = "FORGED"
    at = table.schema.get_field_index("action")
    pq.write_table(table.set_column(at, table.schema.field("action"), pa.array(actions)), path)
    sidecar = sidecar_path(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_bytes()), "sha256": digest}))


def change_line(folder, row):
    """Change the line of another event."""
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b'"iter_num":3,', b'"iter_num":4,', 1))


def remove_heads(folder, row):
    """Sign only the lines before the decision."""
    sign_log(folder, size=row["sequence"])


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (lambda *_: None, "Verified. A tree head signed with the key of the run covers this decision."),
        (remove_heads, "Unsigned. No tree head of a known key covers this decision"),
        (change_line, "Verification failed. This decision is not evidence."),
        (lie_in_parquet, "Verification failed. This decision is not evidence."),
    ],
)
def test_decision_page_shows_only_signed_lines_as_evidence(open_page, runs, tmp_path, attack, expected):
    """The state of the run is checked again after a file has changed. Only evidence has a proof."""
    shutil.copytree(runs / "second", tmp_path / "runs" / "second")
    folder = RunFolder(tmp_path / "runs", "second")
    [row] = Catalog(folder.runs).rows("select * from decisions order by sequence desc limit 1")
    decision = row["decision_id"]
    assert open_page(folder.runs, "decision", decision=decision).success[0].value.startswith("Verified.")
    attack(folder, row)
    test = open_page(folder.runs, "decision", decision=decision)
    assert not test.exception
    boxes = [box.value for box in (*test.success, *test.warning, *test.error)]
    assert [box for box in boxes if box.startswith(expected)], boxes
    assert bool(test.get("download_button")) == expected.startswith("Verified")


def test_decision_of_a_large_run_is_not_verified_until_requested(open_page, runs, monkeypatch):
    """A button starts the check."""
    monkeypatch.setattr("dashboard.decision_evidence.MAX_BYTES_ON_OPEN", 10)
    [row] = Catalog(runs).rows("select * from decisions where run_id = 'second' limit 1")
    test = open_page(runs, "decision", decision=row["decision_id"])
    assert test.warning[0].value.startswith("Not verified.")
    test = test.button(key="verify-second").click().run()
    assert test.success[0].value.startswith("Verified.")


def test_sql_page_refuses_statements_that_write(open_page, runs):
    """A SELECT returns rows. A statement that writes is refused with a message."""
    test = open_page(runs, "sql", sql="select count(*) as n, 'WARMUP' as reason_code from runs")
    assert list(test.dataframe[-1].value) == ["n", "reason_code"]
    assert not test.error
    refused = open_page(runs, "sql", sql="drop table runs")
    assert refused.error
    assert "DROP is refused" in refused.code[0].value


def test_integrity_page_reports_tampering(open_page, tmp_path):
    """The answer is no, with the class of the findings."""
    run = make_run(tmp_path, "bad", batches=10)
    segment = run.folder.segments(1, 0)[0]
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-2]))
    test = open_page(tmp_path, "integrity")
    assert test.text[0].value.startswith("No: tampering")
    lines = [code.value for code in test.code if "signed" in code.value]
    assert len(lines[0].splitlines()) == 1, "findings of one cause are one line"


def test_integrity_page_grades_a_run_by_whose_key_signed_it(open_page, tmp_path, monkeypatch):
    """A key that came with the run proves only that the run agrees with itself."""
    make_run(tmp_path / "runs", "a", batches=10)
    own = str(load_or_create_signer().verifier)
    assert (
        open_page(tmp_path / "runs", "integrity").text[0].value.startswith("Yes. The log is signed by this")
    )
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other"))
    test = open_page(tmp_path / "runs", "integrity")
    assert test.text[0].value.startswith("Consistent, but only with a key that came with the run.")
    test.text_input(key="key").set_value(own)
    assert test.run().text[0].value.startswith("Yes. The log agrees with the key or pins that were given.")


@pytest.mark.parametrize("times", ["new", "old"])
def test_integrity_page_verifies_again_after_a_change_of_equal_size(open_page, tmp_path, times):
    """Times that were set back do not hide a change."""
    run = make_run(tmp_path, "changed", batches=10)
    segment = run.folder.segments(1, 0)[0]
    before = segment.stat()
    test = open_page(tmp_path, "integrity")
    assert test.text[0].value.startswith("Yes.")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"batches":10', b'"batches":11'))
    if times == "old":
        os.utime(segment, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert segment.stat().st_size == len(data)
    assert test.run().text[0].value.startswith("No: tampering")


def test_integrity_page_uses_uploaded_pins_and_key(open_page, runs):
    """Pinned events are counted, and an invalid key is an error."""
    folder = RunFolder(runs, "first")
    test = open_page(runs, "integrity", run="first")
    assert "0 pinned" in test.text[0].value
    test.file_uploader(key="pins").set_value([("a.pin", make_pin(folder), "text/plain")])
    signed = len(folder.segments(1, 0)[0].read_bytes().splitlines())
    assert f"{signed:,} of {signed:,} events are signed, {signed:,} pinned" in test.run().text[0].value
    test.text_input(key="key").set_value(str(load_or_create_signer().verifier))
    assert not any("key not pinned" in note.value for note in test.run().info)
    test.text_input(key="key").set_value("nobody")
    assert test.run().text[0].value == "This run cannot be verified."
    assert not test.exception
    assert any("is no verifier key" in code.value for code in test.code)


def test_run_page_with_live_and_torn_log_shows_no_error(open_page, tmp_path):
    """A live run is UNFINISHED. An incomplete last line does not fail the page."""
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        for i in range(5):
            run.end_batch(run.start_batch(i, 2.0))
        run.flush()
        test = open_page(tmp_path, "run")
        assert not test.exception
        assert "live: not finished" in test.text[0].value
    with run.folder.segments(1, 0)[0].open("ab") as file:
        file.write(b'{"torn')
    assert not open_page(tmp_path, "run").exception


def test_runs_page_names_unreadable_run(open_page, tmp_path):
    """Other runs are shown. The URL of the unreadable run shows the error."""
    make_run(tmp_path, "good", batches=12)
    append_invalid_line(make_run(tmp_path, "bad", batches=12))
    listed = open_page(tmp_path, "runs")
    assert not listed.exception
    assert "1 run, 1 unreadable; 1 needs attention" in listed.text[0].value
    assert any(code.value.startswith("bad: ") for code in listed.code)
    page = open_page(tmp_path, "run", run="bad")
    assert "cannot be read" in page.error[0].value


def test_iteration_range_in_url_is_limited_to_run(open_page, runs):
    """Iterations after the end of the run become its last iteration. Other text is ignored."""
    test = open_page(runs, "run", run="second", **{"from": "5", "to": "99999"})
    assert not test.exception
    assert [entry.value for entry in test.number_input] == [5, 39]
    test = open_page(runs, "run", run="second", **{"from": "-3", "to": "x"})
    assert [entry.value for entry in test.number_input] == [None, None]


def test_sql_url_with_compressed_query_restores_sql(open_page, runs):
    """Compressed SQL in the URL is decompressed, up to the maximum length."""
    parameter = base64.urlsafe_b64encode(zlib.compress(b"select 41 + 1 as answer")).decode()
    test = open_page(runs, "sql", sql=parameter)
    assert test.text_area[0].value == "select 41 + 1 as answer"
    assert test.dataframe
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode()
    assert len(open_page(runs, "sql", sql=bomb).text_area[0].value) <= 20_000


def test_replay_of_valid_run_is_identical(open_page, runs):
    """The replay runs on request, and shows the number of decisions."""
    test = open_page(runs, "integrity", run="first")
    test.button(key="replay-first").click()
    test.run()
    assert test.success[0].value.startswith("Identical: ")


NO_TIMES = "the times of forward and backward were not recorded"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("run", []),
        (
            "gate",
            [f"the saved compute is unknown: {NO_TIMES}.", f"of other thresholds is unknown: {NO_TIMES}"],
        ),
    ],
)
def test_unknown_savings_show_their_reason(open_page, runs, page, expected):
    """No sentence is silent about an unknown figure, and each card with a dash has a reason as its note."""
    test = open_page(runs, page, run="first")
    texts = [element.value for element in (*test.text, *test.caption)]
    assert all(any(words in text for text in texts) for words in expected), texts
    strips = [metric for sent in component_messages(test, "metric_strip") for metric in sent["metrics"]]
    cards = [(card.label, card.value, card.delta) for card in test.metric]
    cards += [(metric["label"], metric["value"], metric["note"]) for metric in strips]
    notes = {label: note for label, value, note in cards if value == "-"}
    assert {note for label, note in notes.items() if "saved" in label.lower()} <= {
        "no stage times",
    }
    assert page == "gate" or notes["Compute saved"] == "no stage times"


def test_memory_page_without_accepted_candidate_shows_text(open_page, tmp_path):
    """A text replaces the empty chart."""
    make_run(tmp_path, "a", batches=30, overrides=["memory.quality_fraction=0.01"])
    assert any(
        "No candidate was accepted" in text.value for text in open_page(tmp_path, "memory", run="a").text
    )


def test_accept_rate_without_band_is_shown(open_page, tmp_path):
    """The presets have no band of the accept rate."""
    make_run(tmp_path, "a", batches=120)
    text = open_page(tmp_path, "memory", run="a").text[0].value
    assert text.startswith("5 of 20 candidates were accepted (25.0%); the quotient")


@pytest.mark.parametrize("page", ["run", "gate", "control", "memory", "integrity", "runs"])
def test_page_that_opens_shows_a_run_made_just_before(open_page, tmp_path, monkeypatch, page):
    """The time between two scans does not hold for a page that opens."""
    monkeypatch.setattr("dashboard.data_source.SCAN_INTERVAL_SECONDS", 3600.0)
    make_run(tmp_path, "old", batches=12)
    assert open_page(tmp_path, page, run="old").title
    make_run(tmp_path, "new", batches=12)
    assert open_page(tmp_path, page, run="new").title


@pytest.mark.parametrize("page", ["gate", "memory"])
def test_rate_with_too_few_batches_is_not_compared_with_band(open_page, tmp_path, page):
    """With 40 batches the rate is not compared. With 210 batches it is inside or outside the band."""
    policy = tmp_path / "mine.yaml"
    policy.write_text(
        "extends: balanced\ntargets: {accept_rate: [0.05, 0.15]}\nplugins: {gate: {target: 0.1}}\n"
    )
    make_run(tmp_path / "runs", "short", batches=40, policy=policy)
    assert "too little data to compare" in open_page(tmp_path / "runs", page, run="short").text[0].value
    make_run(tmp_path / "runs", "long", batches=210, policy=policy)
    assert re.search(
        r"(in|out)side the policy's band", open_page(tmp_path / "runs", page, run="long").text[0].value
    )


@pytest.mark.parametrize(
    ("overrides", "setting"),
    [
        ([], "gate.target=0.4"),
        (["gate.mode=fixed", "gate.surprise_threshold=2"], "gate.surprise_threshold=1.8"),
        (["gate.mode=calibrated", "gate.familiar_mean=3", "gate.familiar_sd=0.2"], "gate.z=0..2:5"),
    ],
)
def test_gate_page_shows_whatif_command_of_gate_mode(open_page, tmp_path, overrides, setting):
    """The command uses the setting that controls the gate in its mode, and it runs."""
    make_run(tmp_path, "a", batches=30, overrides=overrides)
    command = open_page(tmp_path, "gate", run="a").code[0].value
    assert command == f"ockham whatif a --set {setting}"
    result = CliRunner().invoke(build_app(), ["--runs", str(tmp_path), *command.split()[1:]])
    assert result.exit_code == 0, result.output


def test_markup_in_data_name_is_not_rendered(open_page, tmp_path):
    """Markup in the name of the data is never rendered as Markdown."""
    hostile = '<img src=x onerror="alert(1)"> **b** :red[x] $y$ =cmd'
    with Run(plugins=[], runs=tmp_path, run_id="h", data={"name": hostile, "sha256": "0" * 64}) as run:
        for i in range(3):
            run.end_batch(run.start_batch(i, 2.0))
    for page in PAGES:
        test = open_page(tmp_path, page)
        assert not test.exception, page
        assert not any(hostile in block.value for block in test.markdown), page


def test_markup_and_links_in_log_do_not_affect_pages(open_page, tmp_path):
    """Markup and formulas in plugin names are shown as text. Links out of the folder are ignored."""
    run = make_run(tmp_path / "runs", "h", batches=30)
    for kind in ("contexts", "decisions", "events"):
        shutil.rmtree(run.folder.path / kind)
    hostile = b"<img src=x onerror=alert(1)> **b** :red[x] $y$ =cmd " + b"z" * 300
    segment = run.folder.segments(1, 0)[0]
    lines = segment.read_bytes()
    segment.write_bytes(
        lines.replace(b'"plugin":"gate"', b'"plugin":"' + hostile + b'"').replace(b"SURPRISING", hostile)
    )
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "run.json").write_text("secret")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "outside")
    for page in PAGES:
        test = open_page(tmp_path / "runs", page)
        assert not test.exception, page
        blocks = [*test.markdown, *test.caption, *test.title]
        assert not any("onerror" in block.value for block in blocks), page
        assert "secret" not in str([*test.code, *test.text]), page


def test_failing_chart_shows_error_and_rest_of_page(open_page, runs, monkeypatch, capsys):
    """The error replaces the chart, the rest of the page is shown, and the server logs the traceback."""

    def fail(*_):
        raise RuntimeError("cannot draw this")

    monkeypatch.setattr(run_panels, "loss_panel", fail)
    test = open_page(runs, "run", run="first")
    assert test.error[0].value == "This chart cannot be drawn."
    assert any("cannot draw this" in code.value for code in test.code)
    assert component_messages(test, "decision_list")
    assert "Traceback" in capsys.readouterr().err


def test_decision_filter_is_read_from_and_written_to_url(open_page, runs):
    """The filter of the decision list is part of the URL."""
    test = open_page(runs, "run", run="first", of="gate SKIP")
    [shown] = component_messages(test, "decision_list")
    assert {row["what"] for row in shown["rows"]} == {"gate: skip"}
    test.selectbox(key="filter-first").set_value("memory REJECT")
    [shown] = component_messages(test.run(), "decision_list")
    assert {row["what"] for row in shown["rows"]} == {"memory: reject"}
    assert "memory REJECT" in test.query_params["of"]


def test_run_page_shows_loss_of_served_batches(open_page, tmp_path):
    """Runs that are served while they are trained have a panel for the loss of served batches."""
    with Run(plugins=[], runs=tmp_path, run_id="served") as run:
        for i in range(5):
            ctx = run.start_batch(i, 2.0)
            ctx.custom.update(served_loss=2.0, served_new_loss=3.0, served_familiar_loss=1.5)
            run.end_batch(ctx)
    [sent] = component_messages(open_page(tmp_path, "run"), "timeseries")
    panel = next(panel for panel in sent["panels"] if panel["key"] == "served")
    # Five equal values are sent as one.
    assert {line["name"]: line["y"]["start"] for line in panel["lines"]} == {
        "all": 2.0,
        "new text": 3.0,
        "familiar text": 1.5,
    }


def test_decision_page_with_infinite_threshold_shows_no_margin(open_page, tmp_path):
    """An infinite threshold is shown in the sentence, without a margin chart."""
    with Run(policy="balanced", runs=tmp_path, run_id="a", facts={"vocab_size": 256, "max_iters": 60}) as run:
        for i in range(60):
            ctx = run.start_batch(i, 2.0, anchor_available=True)
            run.end_batch(ctx, complexity_cost=0.01)
            if i % 10 == 9:
                run.evaluate(ctx, 2.0, tokens=10)
    rows = Catalog(tmp_path).rows("select decision_id from decisions where isinf(threshold) limit 1")
    assert rows
    test = open_page(tmp_path, "decision", decision=rows[0]["decision_id"])
    assert not test.exception
    assert not test.error
    assert "the threshold inf" in test.text[0].value
