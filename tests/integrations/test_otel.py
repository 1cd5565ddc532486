"""Events to OpenTelemetry: a receiver on loopback that decodes with opentelemetry-proto, with outages in between."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import threading

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.forwarding import Cursor, forward
from ockham.record.log_writer import LogWriter
from tests.helpers.events import REVISION, decision, lines, run_folder
from tests.helpers.runs import made_run
from tests.test_forwarding import finish

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="opentelemetry-exporter-otlp-proto-http is not installed"
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from ockham.integrations.otel import OtlpSink

logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class Taker(http.server.BaseHTTPRequestHandler):
    """An OTLP endpoint: decodes each request by the protocol's own classes; `moods` says what goes wrong."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        mood = self.server.moods.pop(0) if self.server.moods else "take"
        if mood == "cut before":
            self.close_connection = True
            return
        if isinstance(mood, int):
            self.say(mood)
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportLogsServiceRequest.FromString(body)
        for resource in request.resource_logs:
            about = values(resource.resource.attributes)
            for scope in resource.scope_logs:
                self.server.taken += [(record, about, scope.scope.name) for record in scope.log_records]
        self.server.auth.append(self.headers.get("Authorization"))
        if mood == "cut after":
            self.close_connection = True
            return
        answer = ExportLogsServiceResponse()
        if mood == "drop":
            answer.partial_success.rejected_log_records = 2
            answer.partial_success.error_message = "too big"
        self.say(200, answer.SerializeToString())

    def say(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    made.moods, made.taken, made.paths, made.auth, made.daemon_threads = [], [], [], [], True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def bodies(server):
    return [record.body.string_value.encode() for record, _, _ in server.taken]


def test_every_event_is_a_log_record(tmp_path, server, url):
    """In order; the body is the line, the attributes say what a person filters by."""
    folder = made_run(tmp_path / "runs", batches=15, nan_at=5).folder
    with OtlpSink(url) as collector:
        sent = forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=7)
    assert bodies(server) == lines(folder)
    assert sent.events == len(server.taken)
    assert set(server.paths) == {"/v1/logs"}
    for record, about, scope in server.taken:
        event = json.loads(record.body.string_value)
        told = values(record.attributes)
        assert (told["cloudevents.event_id"], told["cloudevents.event_type"]) == (event["id"], event["type"])
        assert (told["cloudevents.event_source"], told["cloudevents.event_spec_version"]) == (
            event["source"],
            "1.0",
        )
        assert (told["ockham.run_id"], told["ockham.sequence"]) == ("a", event["data"]["sequence"])
        assert told.get("ockham.reason_code") == event["data"].get("reason_code")
        assert told.get("ockham.iter_num") == event["data"].get("iter_num")
        assert record.event_name == event["type"]
        assert abs(record.time_unix_nano // 1000 - micros(event["time"])) == 0
        assert (about["service.name"], about["service.instance.id"], scope) == ("ockham", "a", "ockham")
    skips = [
        values(r.attributes)
        for r, _, _ in server.taken
        if values(r.attributes).get("ockham.reason_code") == "NONFINITE_LOSS"
    ]
    assert skips
    assert skips[0]["ockham.observed"] != skips[0]["ockham.observed"]  # NaN
    assert {r.severity_text for r, _, _ in server.taken} >= {"DEBUG", "INFO"}


def micros(text):
    from datetime import datetime

    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def test_an_outage_while_the_run_is_live(tmp_path, server, url):
    """Cut before and after the collector had a batch, then overloaded: all arrive in order, doubles are told by their ID."""
    server.moods += [
        "take",
        *["cut before"] * 4,
        "take",
        "cut after",
        *[503] * 3,
    ]  # longer than the exporter itself tries
    folder = run_folder(tmp_path / "runs")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=40)
    done = []
    with OtlpSink(url, timeout=0.3) as collector:
        sender = threading.Thread(
            target=lambda: done.append(
                forward(
                    folder, collector, Cursor(tmp_path / "c", "a"), batch=10, follow=True, retry_timeout=30
                )
            ),
            daemon=True,
        )
        sender.start()
        for i in range(150):
            writer.append("decision.made", decision(i), iter_num=i)
            if i % 50 == 0:
                writer.flush()
        finish(writer)
        writer.close()
        sender.join(60)
    assert done
    once = list(dict.fromkeys(bodies(server)))
    assert once == lines(folder)
    assert len(server.taken) == len(once) + 10  # the batch that was taken, and not heard of
    assert writer.blocked_seconds == 0


def test_the_cursor_moves_on_success_alone(tmp_path, server, url):
    """A collector that stays down is given up, and the next call loses nothing."""
    folder = made_run(tmp_path / "runs", batches=5).folder
    server.moods += ["take", *[503] * 200]
    with OtlpSink(url, timeout=0.1) as collector, pytest.raises(UnverifiableError, match="answered 503"):
        forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=4, retry_timeout=0.5)
    assert Cursor(tmp_path / "c", "a").position == {(1, 0): 4}
    server.moods.clear()
    with OtlpSink(url) as collector:
        forward(folder, collector, Cursor(tmp_path / "c", "a"), batch=4)
    assert bodies(server) == lines(folder)


@pytest.mark.parametrize(
    ("mood", "told"), [(400, "answered 400"), (404, "v1/logs"), ("drop", "dropped 2 events")]
)
def test_a_refusal_is_told(tmp_path, server, url, mood, told):
    """For good, and at once; also events that were dropped under a 200, of which the exporter says nothing."""
    folder = made_run(tmp_path / "runs", batches=5).folder
    server.moods += [mood]
    with OtlpSink(url) as collector, pytest.raises(BadInputError, match=told):
        forward(folder, collector, Cursor(tmp_path / "c", "a"))
    assert Cursor(tmp_path / "c", "a").position == {}


def test_the_verb(tmp_path, server, url, monkeypatch):
    """With a token, a path of one's own, and a cursor that the plain form does not share."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OCKHAM_FORWARD_TOKEN", "t")
    folder = made_run(tmp_path / "runs", batches=5).folder
    words = ["--runs", str(tmp_path / "runs"), "forward", "a", "--otlp", "--to", f"{url}/other/logs"]
    done = CliRunner().invoke(build_app(), words)
    assert done.exit_code == 0, done.output
    assert bodies(server) == lines(folder)
    assert server.paths == ["/other/logs"]
    assert server.auth == ["Bearer t"]
    again = CliRunner().invoke(build_app(), words)
    assert "0 events in 0 requests" in again.stderr
    odd = CliRunner().invoke(build_app(), [*words[:-1], "ftp://x"])
    assert isinstance(odd.exception, BadInputError)


@pytest.mark.parametrize(
    "odd", [b'{"type":"x","data":{}}', b"[]", b"x", b'{"type":"x","data":{"attempt":"y"}}']
)
def test_what_is_no_event_is_not_exported(odd):
    """A stranger's line: one error, before anything is sent."""
    with OtlpSink("http://127.0.0.1:9") as collector, pytest.raises(BadInputError, match="none of ours"):
        collector.send([odd])
