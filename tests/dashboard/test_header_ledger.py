"""Header of all pages: names and tags of runs, the state of the ledger, and pins of the command line."""

from __future__ import annotations

import logging

import pytest

from dashboard import verifier
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.run_labels import set_name, set_tags
from ockham.record.tlog.pin import make_pin
from tests.dashboard.test_header import banners, read_header
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


@pytest.fixture
def runs(tmp_path):
    """Folder with one run, and a ledger with its name and two tags."""
    run = make_run(tmp_path / "runs", "first", batches=30)
    set_name(run.folder, "large", "ada", "")
    set_tags(run.folder, ["paper:1", "baseline"], "ada", "", remove=False)
    return tmp_path / "runs"


def change_ledger(runs):
    """Change one letter of a name in the ledger."""
    ledger = RunFolder(runs, LEDGER)
    segment = ledger.segments(*ledger.logs()[0])[0]
    segment.write_bytes(segment.read_bytes().replace(b'"large"', b'"laxge"'))


def test_header_has_name_and_tags_and_verified_ledger(open_page, runs, verify_all):
    """They are those of the ledger, whose state is next to them."""
    open_page(runs, "gate", run="first")
    assert "ledger not verified yet" in read_header(open_page(runs, "gate", run="first"))
    verify_all()
    header = read_header(open_page(runs, "gate", run="first"))
    assert "name large tags baseline, paper:1" in header
    assert "ledger verified" in header
    assert "ledger verified" in read_header(open_page(runs, "odr"))


def test_folder_without_a_ledger_has_no_state_of_it(open_page, tmp_path, verify_all):
    """The header contains facts about existing logs only."""
    make_run(tmp_path, "first", batches=12)
    open_page(tmp_path, "gate", run="first")
    verify_all()
    assert "ledger" not in read_header(open_page(tmp_path, "gate", run="first"))


@pytest.mark.parametrize("page", ["gate", "odr"])
def test_changed_ledger_is_red_on_every_page(open_page, runs, verify_all, page):
    """Names and approvals are not more than the ledger. The name of the changed entry is not shown."""
    change_ledger(runs)
    query = {"run": "first"} if page == "gate" else {}
    open_page(runs, page, **query)
    verify_all()
    test = open_page(runs, page, **query)
    [banner] = banners(test)
    assert "Do not rely on names, tags, approvals and waivers." in banner
    assert "The ledger changed after it was signed" in banner
    assert "name la" not in read_header(test)


def test_ledger_with_an_unknown_key_is_not_called_broken(open_page, runs, verify_all, monkeypatch, tmp_path):
    """On the machine of an auditor without a key, nothing is known about it."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "no-keys"))
    open_page(runs, "gate", run="first")
    verify_all()
    test = open_page(runs, "gate", run="first")
    assert banners(test) == []
    assert "ledger not verified, because its key is not known" in read_header(test)


@pytest.mark.parametrize("as_folder", [True, False])
def test_pinned_events_are_in_the_header_and_a_rewritten_log_is_red(
    open_page, runs, verify_all, monkeypatch, tmp_path, as_folder
):
    """A pin of one run is not used for another one."""
    make_run(runs, "second", batches=12)
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "README").write_text("not a pin")
    run = RunFolder(runs, "first")
    (folder / "first.pin").write_bytes(make_pin(run))
    monkeypatch.setenv("OCKHAM_PINS", str(folder if as_folder else folder / "first.pin"))
    events = sum(len(path.read_bytes().splitlines()) for path in run.segments(1, 0))
    open_page(runs, "gate", run="first")
    verify_all()
    assert f"pinned {events} of {events} events" in read_header(open_page(runs, "gate", run="first"))
    assert "pinned no" in read_header(open_page(runs, "gate", run="second"))
    integrity = open_page(runs, "integrity", run="first")
    assert f"{events} pinned" in integrity.text[0].value
    change_one_digit(run)
    results = verifier.run_verifier()._results
    results["first"] = results["first"]._replace(seconds=0.0)
    verify_all()
    assert banners(open_page(runs, "gate", run="first"))


def test_new_pin_makes_the_result_out_of_date(open_page, runs, verify_all, monkeypatch, tmp_path):
    """The next verification uses it."""
    folder = tmp_path / "pins"
    folder.mkdir()
    monkeypatch.setenv("OCKHAM_PINS", str(folder))
    open_page(runs, "gate", run="first")
    verify_all()
    assert "pinned no" in read_header(open_page(runs, "gate", run="first"))
    (folder / "first.pin").write_bytes(make_pin(RunFolder(runs, "first")))
    assert not verifier.run_verifier().state("first").is_current


def test_pin_that_disappears_is_an_error_of_all_runs(open_page, runs, verify_all, monkeypatch, tmp_path):
    """Without the file, the run of the event is unknown."""
    monkeypatch.setenv("OCKHAM_PINS", str(tmp_path / "gone.pin"))
    open_page(runs, "gate", run="first")
    verify_all()
    [banner, *_] = banners(open_page(runs, "gate", run="first"))
    assert "cannot be verified" in banner


def test_result_of_the_integrity_page_is_in_the_header_of_all_pages(open_page, runs):
    """No page contradicts another one, also before the background verification."""
    change_one_digit(RunFolder(runs, "first"))
    assert open_page(runs, "integrity", run="first").text[0].value.startswith("No: tampering")
    [banner] = banners(open_page(runs, "gate", run="first"))
    assert "The log of first changed after it was signed" in banner
