"""Runs on an object store, asked through a real S3 API on loopback: the same answers, and nothing written there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ockham.catalog import Catalog
from ockham.catalog.object_store import sync_to_local
from ockham.errors import BadInputError
from ockham.record.log_writer import LogWriter
from tests.helpers.events import REVISION, decision, run_folder
from tests.helpers.runs import made_run

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of moto, boto and aiohttp


@pytest.fixture(scope="module")
def store():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    made.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_EC2_METADATA_DISABLED": "true",
                            "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            patch.setenv(name, value)
        import s3fs

        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("fleet")
        yield store
    made.stop()


def put(store, runs: Path, prefix: str) -> None:
    for path in sorted(runs.rglob("*")):
        if path.is_file():
            store.pipe_file(f"{prefix}/{path.relative_to(runs)}", path.read_bytes())


def listing(store, prefix):
    store.invalidate_cache()
    return {key: (about["ETag"], about["size"]) for key, about in store.find(prefix, detail=True).items()}


def test_a_run_on_s3_answers_as_the_folder_does(store, tmp_path):
    """Parquet of sealed segments and the lines of a live one; then the run grows, and only what is new is brought."""
    runs = tmp_path / "runs"
    made_run(runs, "a", 60)
    live = run_folder(runs, "b")
    log = LogWriter(live, 1, 0, policy_revision=REVISION)
    log.append("decision.made", decision(1), iter_num=1)
    log.flush()
    put(store, runs, "fleet/runs")
    store.pipe_file("fleet/runs/a/../../evil/run.json", b"{}")
    before = listing(store, "fleet")

    cache = tmp_path / "cache"
    copy = sync_to_local("s3://fleet/runs", cache=cache)
    for sql in (
        "select * from decisions order by all",
        "select * exclude (created) from run_summary join runs using (run_id) order by all",
    ):
        assert Catalog(copy).sql(sql).equals(Catalog(runs).sql(sql))
    assert listing(store, "fleet") == before
    assert not list(cache.rglob("weights.bin"))
    assert not (tmp_path / "evil").exists()
    assert not any((cache / "a/log/1-0/000000000000.jsonl").read_bytes())  # its Parquet stands for it

    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}
    log.append("decision.made", decision(2), iter_num=2)
    log.close()
    put(store, runs, "fleet/runs")
    again = Catalog(sync_to_local(Path("s3://fleet/runs"), cache=cache))  # a Path has one slash left
    assert again.rows("select max(iter_num) as last from decisions where run_id = 'b'") == [{"last": 2}]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_is_gone_there_goes_here(store, tmp_path):
    """A run that was deleted is not answered for any more."""
    made_run(tmp_path / "runs", "a", 5)
    put(store, tmp_path / "runs", "fleet/gone")
    assert Catalog(sync_to_local("s3://fleet/gone", cache=tmp_path / "c")).rows(
        "select run_id from runs"
    ) == [{"run_id": "a"}]
    store.rm("fleet/gone/a", recursive=True)
    assert (
        Catalog(sync_to_local("s3://fleet/gone", cache=tmp_path / "c")).rows("select run_id from runs") == []
    )


def test_only_the_run_that_is_asked_for_is_brought(store, tmp_path):
    """By its ID or a beginning; what was brought of others before stays, and counts as brought."""
    for run_id in ("night-1", "night-2", "noon"):
        made_run(tmp_path / "runs", run_id, 5)
    put(store, tmp_path / "runs", "fleet/some")

    def brought(run):
        copy = sync_to_local("s3://fleet/some", run, tmp_path / "c")
        return sorted(path.name for path in copy.iterdir() if path.is_dir())

    assert brought("noon") == ["noon"]
    assert brought("night-1") == ["night-1", "noon"]
    assert brought("night") == ["night-1", "night-2", "noon"]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")}
    assert brought("") == ["night-1", "night-2", "noon"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_folder_is_itself(tmp_path):
    """No copy, no driver."""
    assert sync_to_local(tmp_path) == tmp_path
    assert sync_to_local("runs") == Path("runs")


def test_a_store_that_cannot_be_read_is_one_line(store, tmp_path):
    """No such bucket."""
    with pytest.raises(BadInputError, match="cannot read s3://nowhere"):
        sync_to_local("s3://nowhere-at-all/runs", cache=tmp_path / "c")


def test_the_verbs_take_a_url(store, tmp_path, monkeypatch):
    """Before the verb, as any other --runs."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made_run(tmp_path / "runs", "night", 20)
    put(store, tmp_path / "runs", "fleet/verbs")
    for words in (
        ["runs", "-f", "json"],
        ["ask", "refusals", "--run", "night"],
        ["why", "night", "3"],
        ["query", "select run_id from runs"],
    ):
        done = CliRunner().invoke(build_app(), ["--runs", "s3://fleet/verbs", *words])
        assert (done.exit_code, done.exception) == (0, None)
        assert "night" in done.stdout
