"""Every page on real runs, on nothing, on what is broken, and with hostile addresses."""

from __future__ import annotations

import functools
import logging
import re
import shutil

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from ockham import resources
from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.run import Run
from tests.dashboard.test_source import damage
from tests.helpers.runs import made_run

PAGES = (
    "overview",
    "run",
    "decision",
    "gate",
    "control",
    "memory",
    "compare",
    "value",
    "odr",
    "sql",
    "integrity",
)
pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module", autouse=True)
def _packages_are_searched_once():
    """Each AppTest would look for components in the metadata of all installed packages, 0.4 s."""
    with pytest.MonkeyPatch.context() as patch:
        found = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made_run(folder, "first", nan_at=50)
    made_run(folder, "second", batches=40)
    return folder


@pytest.fixture
def at(monkeypatch, tmp_path):
    def opened(runs, page, **query):
        monkeypatch.setenv("OCKHAM_RUNS", str(runs))
        monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
        test = AppTest.from_file(str(resources.data_root() / "dashboard" / "app.py"), default_timeout=60)
        if page != "overview":
            test.switch_page(f"screens/{page}.py")
        for key, value in query.items():
            test.query_params[key] = value
        return test.run()

    return opened


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_with_its_question_and_an_answer(at, runs, page):
    """A title that asks, one sentence that answers, and no error."""
    test = at(runs, page)
    assert not test.exception
    assert not test.error
    assert test.title[0].value.endswith(("?", "."))
    assert test.text[0].value


@pytest.mark.parametrize("page", PAGES)
def test_every_page_reads_well_without_any_run(at, tmp_path, page):
    """What to type, and no error."""
    test = at(tmp_path / "nowhere", page)
    assert not test.exception
    assert not test.error


def test_the_answer_is_this_runs(at, runs):
    """The numbers in the sentence are those of the chosen run."""
    assert "second" in at(runs, "run", run="second").text[0].value
    assert "40 batches" in at(runs, "run", run="second").text[0].value
    rate = Catalog(runs).rows("select update_rate from run_summary where run_id = 'first'")[0]["update_rate"]
    assert f"{rate:.1%} of the finite batches" in at(runs, "gate", run="first").text[0].value


STRANGE = ("nope", "../../etc/passwd", "<script>alert(1)</script>", "x" * 300, "=cmd()", "**bold**")


@pytest.mark.parametrize(
    ("page", "name"), [*(("gate", name) for name in STRANGE), ("run", "nope"), ("integrity", "../../etc")]
)
def test_an_unknown_run_is_said_and_never_another_one(at, runs, page, name):
    """An error that says so; what the address held is shown as code, not as markup."""
    test = at(runs, page, run=name)
    assert not test.exception
    assert test.error
    assert test.code[0].value == name[:300]
    assert not test.title


def test_a_decision_by_its_address(at, runs):
    """One plain sentence, the chain of its batch, its provenance."""
    from ockham.catalog import Catalog

    row = Catalog(runs).rows(
        "select * from gate_decisions where run_id = 'first' and action = 'SKIP' limit 1"
    )[0]
    test = at(runs, "decision", decision=row["decision_id"])
    assert f"At iteration {row['iter_num']} gate said SKIP because BELOW_THRESHOLD" in test.text[0].value
    facts, typed = (
        next(code for code in test.code if word in code.value) for word in ("decision   ", "ockham prove")
    )
    assert facts.proto.wrap_lines  # a phone would show half of each ID
    assert typed.proto.wrap_lines
    # Whether a value that equals its threshold passes is the plugin's: the distance holds for each.
    assert any("on the other side if the threshold stood" in text.value for text in test.text)
    missing = at(runs, "decision", decision="00000000-0000-7000-8000-000000000000")
    assert "is not in the logs" in missing.text[0].value


def test_sql_goes_through_the_guard(at, runs):
    """A query is answered; a statement that writes is refused in words."""
    test = at(runs, "sql", sql="select count(*) as n from runs")
    assert test.dataframe
    assert not test.error
    refused = at(runs, "sql", sql="drop table runs")
    assert refused.error
    assert "DROP is refused" in refused.code[0].value


def test_tampering_is_seen(at, tmp_path):
    """The sentence says NO, and what was found."""
    run = made_run(tmp_path, "bad", batches=10)
    segment = run.folder.segments(1, 0)[0]
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-2]))
    test = at(tmp_path, "integrity")
    assert test.text[0].value.startswith("NO: tampering")


def test_a_pin_and_a_key_of_the_readers(at, runs):
    """What was pinned is counted; a key that signed nothing, and what is no pin, are said."""
    own = RunFolder(runs, "first")
    test = at(runs, "integrity", run="first")
    assert "0 pinned" in test.text[0].value
    test.file_uploader(key="pins").set_value([("a.pin", make_pin(own), "text/plain")])
    signed = len(own.segments(1, 0)[0].read_bytes().splitlines())
    assert f"{signed:,} of {signed:,} events are signed, {signed:,} pinned" in test.run().text[0].value
    test.text_input(key="key").set_value(str(load_or_create_signer().verifier))
    assert not any("key not pinned" in note.value for note in test.run().info)
    test.text_input(key="key").set_value("nobody")
    assert test.run().text[0].value == "It cannot be judged."
    assert not test.exception
    assert any("is no verifier key" in code.value for code in test.code)


def test_a_live_and_a_torn_run(at, tmp_path):
    """A run that goes on is UNFINISHED; half a line at its end blanks nothing."""
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        for i in range(5):
            run.end_batch(run.start_batch(i, 2.0))
        run.flush()
        test = at(tmp_path, "run")
        assert not test.exception
        assert "UNFINISHED" in test.text[0].value
    with run.folder.segments(1, 0)[0].open("ab") as file:
        file.write(b'{"torn')
    assert not at(tmp_path, "run").exception


def test_a_run_that_cannot_be_read_is_named_on_the_first_page(at, tmp_path):
    """The others are shown; its own address says why it is not."""
    made_run(tmp_path, "good", batches=12)
    damage(made_run(tmp_path, "bad", batches=12))
    first = at(tmp_path, "overview")
    assert not first.exception
    assert "1 run, 1 more that cannot be read; 1 needs a look" in first.text[0].value
    assert any(code.value.startswith("bad: ") for code in first.code)
    own = at(tmp_path, "run", run="bad")
    assert "cannot be read" in own.error[0].value


def test_iterations_of_the_address_are_those_of_the_charts(at, runs):
    """And those beyond the run's end become its end."""
    test = at(runs, "run", run="second", **{"from": "5", "to": "99999"})
    assert not test.exception
    assert [entry.value for entry in test.number_input] == [5, 39]
    test = at(runs, "run", run="second", **{"from": "-3", "to": "x"})
    assert [entry.value for entry in test.number_input] == [None, None]


def test_a_query_comes_back_by_its_address(at, runs):
    """SQL is packed into the address and unpacked again."""
    import base64
    import zlib

    word = base64.urlsafe_b64encode(zlib.compress(b"select 41 + 1 as answer")).decode()
    test = at(runs, "sql", sql=word)
    assert test.text_area[0].value == "select 41 + 1 as answer"
    assert test.dataframe
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode()
    assert len(at(runs, "sql", sql=bomb).text_area[0].value) <= 20_000


def test_a_comparison_becomes_a_record(at, runs):
    """The draft names both runs, pins their logs and carries the measured value."""
    test = at(runs, "compare", run="second", vs="first")
    test.button(key="draft").click()
    test.run()
    made = next(code.value for code in test.code if code.value.startswith("---"))
    assert 'run: "first"' in made
    assert 'run: "second"' in made
    assert "measured:" in made


def test_replay_says_that_all_came_out_again(at, runs):
    """On request, with the number of decisions."""
    test = at(runs, "integrity", run="first")
    test.button(key="replay-first").click()
    test.run()
    assert test.success[0].value.startswith("Identical: ")


def test_value_is_open_until_somebody_says_what_is_good_enough(at, runs):
    """Savings of a model that nobody has judged are said to be that."""
    test = at(runs, "value", run="first")
    assert "Open: nobody said" in test.text[0].value
    test.number_input(key="value-floor").set_value(9.0)
    assert "Yes: the floor was reached" in test.run().text[0].value
    below = at(runs, "value", run="first", floor="0.5")
    assert "NO: the floor was never reached" in below.text[0].value
    assert below.code[-1].value == "ockham roi first --floor 0.5"


def test_unknown_data_are_not_the_same_data(at, tmp_path):
    """Two loops that did not say what they read are not said to have read the same."""
    for name in ("a", "b"):
        with Run("balanced", runs=tmp_path, run_id=name, facts={"vocab_size": 256}) as run:
            ctx = run.end_batch(run.start_batch(0, 3.0))
            run.evaluate(ctx, 3.0)
    told = [text.value for text in at(tmp_path, "compare", run="a", vs="b").text]
    assert sum("no digest of the data is recorded" in text for text in told) == 2


def test_no_quotient_is_compared_where_none_was_accepted(at, tmp_path):
    """It is said: an empty chart would say nothing."""
    made_run(tmp_path, "a", batches=30, overrides=["memory.quality_fraction=0.01"])
    assert any("No candidate was accepted" in text.value for text in at(tmp_path, "memory", run="a").text)


@pytest.mark.parametrize("page", ["gate", "memory"])
def test_a_rate_of_few_is_judged_on_no_page(at, runs, tmp_path, page):
    """Overview, Run and `ockham train` say that 40 batches are too few; the page of the rate does too."""
    assert "too few to judge against the promised" in at(runs, page, run="second").text[0].value
    made_run(tmp_path, "long", batches=210, overrides=["gate.target=0.1"])
    assert re.search(r"(in|out)side the promised", at(tmp_path, page, run="long").text[0].value)


@pytest.mark.parametrize(
    ("overrides", "dial"),
    [
        ([], "gate.target=0.4"),
        (["gate.mode=fixed", "gate.surprise_threshold=2"], "gate.surprise_threshold=1.8"),
        (["gate.mode=calibrated", "gate.familiar_mean=3", "gate.familiar_sd=0.2"], "gate.z=0..2:5"),
    ],
)
def test_the_gates_own_dial_is_asked_about(at, tmp_path, overrides, dial):
    """A calibrated gate has no target, and a fixed one only its threshold."""
    made_run(tmp_path, "a", batches=30, overrides=overrides)
    typed = at(tmp_path, "gate", run="a").code[0].value
    assert typed == f"ockham whatif a --set {dial}"
    done = CliRunner().invoke(build_app(), ["--runs", str(tmp_path), *typed.split()[1:]])
    assert done.exit_code == 0, done.output


def test_hostile_text_is_shown_and_not_run(at, tmp_path):
    """Names of plugins and reasons that are markup stand as they are."""
    from ockham.policy import policy_from_plugins

    assert policy_from_plugins is not None
    hostile = '<img src=x onerror="alert(1)"> **b** :red[x] $y$ =cmd'
    with Run(plugins=[], runs=tmp_path, run_id="h", data={"name": hostile, "sha256": "0" * 64}) as run:
        for i in range(3):
            run.end_batch(run.start_batch(i, 2.0))
    for page in PAGES:
        test = at(tmp_path, page)
        assert not test.exception, page
        assert not any(hostile in block.value for block in test.markdown), page


def test_a_hostile_log_changes_no_page(at, tmp_path):
    """Markup, formulas and long words in place of names of plugins, and links out of the folder: shown as text, or left out."""
    run = made_run(tmp_path / "runs", "h", batches=30)
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
        test = at(tmp_path / "runs", page)
        assert not test.exception, page
        assert not any("onerror" in block.value for block in [*test.markdown, *test.caption, *test.title]), (
            page
        )
        assert "secret" not in str([*test.code, *test.text]), page


def test_one_chart_that_fails_blanks_no_page(at, runs, monkeypatch, capsys):
    """It says so in its place; what stands below it is there, and the traceback is the server's."""
    from dashboard import timeline_charts

    def broken(*_):
        raise RuntimeError("cannot draw this")

    monkeypatch.setattr(timeline_charts, "loss_lane", broken)
    test = at(runs, "run", run="first")
    assert test.error[0].value == "This chart could not be drawn."
    assert any("cannot draw this" in code.value for code in test.code)
    assert test.dataframe
    assert "Traceback" in capsys.readouterr().err


def test_decisions_of_one_plugin_are_listed_by_the_address(at, runs):
    """Chosen by menu or by a click on a strip, and kept in the address."""
    test = at(runs, "run", run="first", of="gate SKIP")
    shown = test.dataframe[0].value
    assert set(shown["plugin"]) == {"gate"}
    assert set(shown["action"]) == {"SKIP"}
    test.selectbox(key="lane-first").set_value("memory REJECT")
    assert set(test.run().dataframe[0].value["plugin"]) == {"memory"}
    assert "memory REJECT" in test.query_params["of"]


def test_a_run_that_learned_while_it_was_served(at, tmp_path):
    """What each batch cost before it was learned stands on the page of its run, and on no other's."""
    with Run(plugins=[], runs=tmp_path, run_id="served") as run:
        for i in range(5):
            ctx = run.start_batch(i, 2.0)
            ctx.custom.update(served_loss=2.0, served_new_loss=3.0, served_familiar_loss=1.5)
            run.end_batch(ctx)
    assert "Served before learned, nats/token" in [part.value for part in at(tmp_path, "run").subheader]


def test_a_threshold_without_end_has_no_distance(at, tmp_path):
    """Infinity is an ordinary limit: the sentence says it, and nothing is drawn."""
    from ockham.catalog import Catalog

    with Run(policy="balanced", runs=tmp_path, run_id="a", facts={"vocab_size": 256, "max_iters": 60}) as run:
        for i in range(60):
            ctx = run.start_batch(i, 2.0, anchor_available=True)
            run.end_batch(ctx, complexity_cost=0.01)
            if i % 10 == 9:
                run.evaluate(ctx, 2.0, tokens=10)
    rows = Catalog(tmp_path).rows("select decision_id from decisions where isinf(threshold) limit 1")
    assert rows
    test = at(tmp_path, "decision", decision=rows[0]["decision_id"])
    assert not test.exception
    assert not test.error
    assert "against" in test.text[0].value
