"""Export to OpenTelemetry: a local collector that decodes with opentelemetry-proto, with outages."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import math
import threading
from datetime import datetime

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.forwarding import Cursor, forward
from ockham.record.log_writer import LogWriter
from tests.helpers.events import REVISION, append_run_finished, decision, lines, run_folder
from tests.helpers.runs import make_run

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="opentelemetry-exporter-otlp-proto-http is not installed"
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from ockham.integrations.otel import OtlpSink

logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class CollectorHandler(http.server.BaseHTTPRequestHandler):
    """OTLP endpoint that decodes each request with the protocol's classes.

    `faults` lists the next failures.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else "take"
        if fault == "cut before":
            self.close_connection = True
            return
        if isinstance(fault, int):
            self.respond(fault)
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportLogsServiceRequest.FromString(body)
        for resource in request.resource_logs:
            resource_attributes = read_attributes(resource.resource.attributes)
            for scope in resource.scope_logs:
                self.server.records += [
                    (record, resource_attributes, scope.scope.name) for record in scope.log_records
                ]
        self.server.auth.append(self.headers.get("Authorization"))
        if fault == "cut after":
            self.server.cut_records = len(request.resource_logs[0].scope_logs[0].log_records)
            self.close_connection = True
            return
        response = ExportLogsServiceResponse()
        if fault == "drop":
            response.partial_success.rejected_log_records = 2
            response.partial_success.error_message = "too big"
        self.respond(200, response.SerializeToString())

    def respond(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def read_attributes(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def server():
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CollectorHandler)
    (
        http_server.faults,
        http_server.records,
        http_server.paths,
        http_server.auth,
        http_server.daemon_threads,
    ) = [], [], [], [], True
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield http_server
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@pytest.fixture
def single_try(monkeypatch):
    """Leave all retries to Ockham. The exporter retries for the whole timeout, which a busy machine needs."""
    client = pytest.importorskip("opentelemetry.exporter.otlp.common.http")
    monkeypatch.setattr(client, "_MAX_RETRIES", 1)


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def read_bodies(server):
    """Return the bodies of all received records."""
    return [record.body.string_value.encode() for record, _, _ in server.records]


def test_every_event_is_exported_as_a_log_record(tmp_path, server, url):
    """The order is kept. The body is the line, and the attributes are for filtering."""
    folder = make_run(tmp_path / "runs", batches=15, nan_at=5).folder
    with OtlpSink(url) as collector:
        sent = forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=7)
    assert read_bodies(server) == lines(folder)
    assert sent.events == len(server.records)
    assert set(server.paths) == {"/v1/logs"}
    for record, resource_attributes, scope in server.records:
        event = json.loads(record.body.string_value)
        attributes = read_attributes(record.attributes)
        assert attributes["cloudevents.event_id"] == event["id"]
        assert attributes["cloudevents.event_type"] == event["type"]
        assert attributes["cloudevents.event_source"] == event["source"]
        assert attributes["cloudevents.event_spec_version"] == "1.0"
        assert attributes["ockham.run_id"] == "a"
        assert attributes["ockham.sequence"] == event["data"]["sequence"]
        assert attributes.get("ockham.reason_code") == event["data"].get("reason_code")
        assert attributes.get("ockham.iter_num") == event["data"].get("iter_num")
        assert record.event_name == event["type"]
        assert abs(record.time_unix_nano // 1000 - to_microseconds(event["time"])) == 0
        assert resource_attributes["service.name"] == "ockham"
        assert resource_attributes["service.instance.id"] == "a"
        assert scope == "ockham"
    all_attributes = [read_attributes(record.attributes) for record, _, _ in server.records]
    skips = [item for item in all_attributes if item.get("ockham.reason_code") == "NONFINITE_LOSS"]
    assert skips
    assert math.isnan(skips[0]["ockham.observed"])
    assert {r.severity_text for r, _, _ in server.records} >= {"DEBUG", "INFO"}


def to_microseconds(text):
    time_utc = datetime.fromisoformat(text)
    return int(time_utc.timestamp()) * 1_000_000 + time_utc.microsecond


@pytest.mark.usefixtures("single_try")
def test_outage_during_a_run_loses_no_event(tmp_path, server, url):
    """The connection fails before and after a batch, then the collector is overloaded.

    All events arrive in order. Duplicates have the same ID.
    """
    server.faults += ["take", *["cut before"] * 4, "take", "cut after", *[503] * 3]
    folder = run_folder(tmp_path / "runs")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=40)
    done = []
    with OtlpSink(url) as collector:
        cursor = Cursor(tmp_path / "c", "a")

        def send_all():
            done.append(forward(folder, collector, cursor, batch=10, follow=True, retry_timeout=60))

        sender = threading.Thread(target=send_all, daemon=True)
        sender.start()
        for i in range(150):
            writer.append("decision.made", decision(i), iter_num=i)
            if i % 50 == 0:
                writer.flush()
        append_run_finished(writer)
        writer.close()
        sender.join(60)
    assert done
    unique = list(dict.fromkeys(read_bodies(server)))
    assert unique == lines(folder)
    # The collector received one batch without its response arriving.
    assert len(server.records) == len(unique) + server.cut_records
    assert writer.blocked_seconds == 0


@pytest.mark.usefixtures("single_try")
def test_cursor_moves_only_on_success(tmp_path, server, url):
    """If the collector stays unavailable, forwarding stops. The next call sends the rest."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    server.faults += ["take", *[503] * 200]
    with OtlpSink(url) as collector, pytest.raises(UnverifiableError, match="answered 503"):
        forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=4, retry_timeout=0.5)
    assert Cursor(tmp_path / "c", "a").position == {(1, 0): 4}
    server.faults.clear()
    with OtlpSink(url) as collector:
        forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=4)
    assert read_bodies(server) == lines(folder)


@pytest.mark.parametrize(
    ("fault", "message"), [(400, "answered 400"), (404, "v1/logs"), ("drop", "dropped 2 events")]
)
def test_refused_events_raise_at_once(tmp_path, server, url, fault, message):
    """This includes events that were dropped with status 200, which the exporter does not report."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    server.faults += [fault]
    with OtlpSink(url) as collector, pytest.raises(BadInputError, match=message):
        forward(folder, collector, Cursor(tmp_path / "c", "a"))
    assert Cursor(tmp_path / "c", "a").position == {}


def test_forward_command_sends_to_the_given_path_once(tmp_path, server, url, monkeypatch):
    """The command uses the token and a cursor that is separate from the plain form."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OCKHAM_FORWARD_TOKEN", "t")
    folder = make_run(tmp_path / "runs", batches=5).folder
    options = ["--runs", str(tmp_path / "runs"), "forward", "a", "--otlp", "--to", f"{url}/other/logs"]
    done = CliRunner().invoke(build_app(), options)
    assert done.exit_code == 0, done.output
    assert read_bodies(server) == lines(folder)
    assert server.paths == ["/other/logs"]
    assert server.auth == ["Bearer t"]
    again = CliRunner().invoke(build_app(), options)
    assert "0 events in 0 requests" in again.stderr
    line = CliRunner().invoke(build_app(), [*options[:-1], "ftp://x"])
    assert isinstance(line.exception, BadInputError)


@pytest.mark.parametrize(
    "line", [b'{"type":"x","data":{}}', b"[]", b"x", b'{"type":"x","data":{"attempt":"y"}}']
)
def test_invalid_line_is_rejected_before_sending(line):
    """The error is raised before any request."""
    with (
        OtlpSink("http://127.0.0.1:9") as collector,
        pytest.raises(BadInputError, match="not an event of Ockham"),
    ):
        collector.send([line])
