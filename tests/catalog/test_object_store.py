"""Runs on an object store, with a local S3 server: same results, and no writes to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ockham.catalog import Catalog
from ockham.catalog.object_store import sync_to_local
from ockham.errors import BadInputError
from ockham.record.log_writer import LogWriter
from tests.helpers.events import REVISION, decision, run_folder
from tests.helpers.runs import make_run

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")
# moto, boto and aiohttp emit warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def store():
    moto = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        import s3fs

        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("fleet")
        yield store
    moto.stop()


def upload(store, runs: Path, prefix: str) -> None:
    for path in sorted(runs.rglob("*")):
        if path.is_file():
            store.pipe_file(f"{prefix}/{path.relative_to(runs)}", path.read_bytes())


def list_objects(store, prefix):
    store.invalidate_cache()
    return {key: (about["ETag"], about["size"]) for key, about in store.find(prefix, detail=True).items()}


def test_query_on_s3_copy_equals_query_on_folder(store, tmp_path):
    """The copy gives the same rows as the folder, and an update copies only new data."""
    runs = tmp_path / "runs"
    make_run(runs, "a", 60)
    live = run_folder(runs, "b")
    log = LogWriter(live, 1, 0, policy_revision=REVISION)
    log.append("decision.made", decision(1), iter_num=1)
    log.flush()
    upload(store, runs, "fleet/runs")
    store.pipe_file("fleet/runs/a/../../evil/run.json", b"{}")
    before = list_objects(store, "fleet")

    cache = tmp_path / "cache"
    copy = sync_to_local("s3://fleet/runs", cache=cache)
    for sql in (
        "select * from decisions order by all",
        "select * exclude (created) from run_summary join runs using (run_id) order by all",
    ):
        assert Catalog(copy).sql(sql).equals(Catalog(runs).sql(sql))
    assert list_objects(store, "fleet") == before
    assert not list(cache.rglob("weights.bin"))
    assert not (tmp_path / "evil").exists()
    # Parquet files cover this segment, so the copy is a sparse file.
    assert not any((cache / "a/log/1-0/000000000000.jsonl").read_bytes())

    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}
    log.append("decision.made", decision(2), iter_num=2)
    log.close()
    upload(store, runs, "fleet/runs")
    # A Path has only one of the two slashes.
    updated = Catalog(sync_to_local(Path("s3://fleet/runs"), cache=cache))
    assert updated.rows("select max(iter_num) as last from decisions where run_id = 'b'") == [{"last": 2}]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_run_deleted_in_store_is_removed_from_copy(store, tmp_path):
    """A run that was deleted in the store is not returned any more."""
    make_run(tmp_path / "runs", "a", 5)
    upload(store, tmp_path / "runs", "fleet/gone")
    assert Catalog(sync_to_local("s3://fleet/gone", cache=tmp_path / "c")).rows(
        "select run_id from runs"
    ) == [{"run_id": "a"}]
    store.rm("fleet/gone/a", recursive=True)
    assert (
        Catalog(sync_to_local("s3://fleet/gone", cache=tmp_path / "c")).rows("select run_id from runs") == []
    )


def test_run_prefix_limits_copied_runs(store, tmp_path):
    """Only runs with the given ID prefix are copied. Earlier copies stay."""
    for run_id in ("night-1", "night-2", "noon"):
        make_run(tmp_path / "runs", run_id, 5)
    upload(store, tmp_path / "runs", "fleet/some")

    def copied_runs(run):
        copy = sync_to_local("s3://fleet/some", run, tmp_path / "c")
        return sorted(path.name for path in copy.iterdir() if path.is_dir())

    assert copied_runs("noon") == ["noon"]
    assert copied_runs("night-1") == ["night-1", "noon"]
    assert copied_runs("night") == ["night-1", "night-2", "noon"]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")}
    assert copied_runs("") == ["night-1", "night-2", "noon"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_local_folder_is_not_copied(tmp_path):
    """A local folder is returned as it is, without a driver."""
    assert sync_to_local(tmp_path) == tmp_path
    assert sync_to_local("runs") == Path("runs")


def test_unreadable_store_raises_one_line_error(store, tmp_path):
    """A bucket that does not exist raises a short error."""
    with pytest.raises(BadInputError, match="cannot read s3://nowhere"):
        sync_to_local("s3://nowhere-at-all/runs", cache=tmp_path / "c")


def test_commands_accept_url_as_runs_folder(store, tmp_path, monkeypatch):
    """The option --runs accepts a URL."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_run(tmp_path / "runs", "night", 20)
    upload(store, tmp_path / "runs", "fleet/verbs")
    for words in (
        ["runs", "-f", "json"],
        ["ask", "refusals", "--run", "night"],
        ["why", "night", "3"],
        ["query", "select run_id from runs"],
    ):
        done = CliRunner().invoke(build_app(), ["--runs", "s3://fleet/verbs", *words])
        assert (done.exit_code, done.exception) == (0, None)
        assert "night" in done.stdout
