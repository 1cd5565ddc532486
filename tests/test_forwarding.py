"""Forwarding of events: in order, at least once, despite network failures, without effect on the run."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from ockham.errors import BadInputError, UnverifiableError
from ockham.forwarding import Cursor, HttpSink, forward
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import RunFolder
from tests.helpers.events import REVISION, append_run_finished, decision, lines, run_folder
from tests.helpers.runs import make_run


class Taker(http.server.BaseHTTPRequestHandler):
    """Handler that decodes requests with the CloudEvents SDK, and fails as the server's `moods` require."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        is_too_large = self.server.limit is not None and size > self.server.limit
        if is_too_large and self.server.closes:
            self.close_connection = True
            self._say(413)
            return
        body = self.rfile.read(size)
        if is_too_large:
            self._say(413)
            return
        mood = self.server.moods.pop(0) if self.server.moods else "take"
        if mood == "cut before":
            self.close_connection = True
            return
        if isinstance(mood, int):
            self._say(mood)
            return
        taken = self._events(body)
        self.server.taken += taken
        self.server.requests.append(dict(self.headers))
        if mood == "cut after":
            self.server.cut_events = len(taken)
            self.close_connection = True
            return
        self._say(204)

    def _events(self, body):
        if self.headers["Content-Type"].startswith("application/cloudevents-batch+json"):
            parts = [json.dumps(one).encode() for one in json.loads(body)]
        else:
            parts = [body]
        read = []
        for part in parts:
            headers = {"content-type": "application/cloudevents+json"}
            event = from_http(HTTPMessage(headers, part), JSONFormat(), CloudEvent)
            read.append((event.get_id(), event.get_type(), event.get_data()["sequence"]))
        self.server.bodies.append(body)
        return read

    def _say(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    made.limit, made.closes = None, False
    made.moods, made.taken, made.requests, made.bodies, made.daemon_threads = [], [], [], [], True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/events?x=1"


def ids(folder):
    return [json.loads(line)["id"] for line in lines(folder)]


def taken(server):
    return [one[0] for one in server.taken]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_forward_delivers_every_event_in_order(tmp_path, server, url, batch):
    """Structured and batched, read by the CloudEvents SDK."""
    folder = make_run(tmp_path / "runs", batches=15).folder
    with HttpSink(url) as receiver:
        sent = forward(folder, receiver, Cursor(tmp_path / "c", "a"), batch=batch)
    assert taken(server) == ids(folder)
    assert sent.events == len(server.taken)
    if batch == 1:
        # The body has the bytes of the log.
        assert server.bodies == lines(folder)


def test_second_forward_continues_at_the_cursor(tmp_path, server, url):
    """Nothing is sent again."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    for _ in range(2):
        with HttpSink(url) as receiver:
            forward(folder, receiver, Cursor(tmp_path / "c", "a"), batch=3)
    assert taken(server) == ids(folder)


def test_forward_survives_two_network_failures(tmp_path, server, url):
    """Duplicates have equal IDs."""
    server.moods += ["take", "cut before", "take", "cut after", 503]
    folder = run_folder(tmp_path / "runs")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=40)
    out = {}
    with HttpSink(url) as receiver:
        sender = threading.Thread(
            target=lambda: out.update(
                sent=forward(
                    folder, receiver, Cursor(tmp_path / "c", "a"), batch=10, follow=True, retry_timeout=60
                )
            ),
            daemon=True,
        )
        sender.start()
        for i in range(150):
            writer.append("decision.made", decision(i), iter_num=i)
            if i % 50 == 0:
                writer.flush()
        append_run_finished(writer)
        writer.close()
        sender.join(60)
    assert not sender.is_alive()
    once = list(dict.fromkeys(taken(server)))
    assert once == ids(folder)
    # The receiver accepted this batch, but its response was lost.
    assert len(server.taken) == len(once) + server.cut_events
    assert writer.blocked_seconds == 0


def test_forward_gives_up_and_continues_later(tmp_path, server, url):
    """The cursor keeps its position."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    server.moods += ["take", *[503] * 50]
    cursor, metadata = tmp_path / "c", []
    with HttpSink(url) as receiver, pytest.raises(UnverifiableError, match="answered 503"):
        forward(folder, receiver, Cursor(cursor, "a"), batch=4, retry_timeout=0.5, on_retry=metadata.append)
    assert all("answered 503" in one and "; try " in one for one in metadata)
    assert metadata[0].endswith("try 2")
    server.moods.clear()
    assert Cursor(cursor, "a").position == {(1, 0): 4}
    with HttpSink(url) as receiver:
        forward(folder, receiver, Cursor(cursor, "a"), batch=4)
    assert taken(server) == ids(folder)


def test_refused_event_is_not_retried(tmp_path, server, url):
    """The receiver answered 400."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    server.moods += [400]
    with HttpSink(url) as receiver, pytest.raises(BadInputError, match="answered 400"):
        forward(folder, receiver, Cursor(tmp_path / "c", "a"))
    assert not server.taken


@pytest.mark.parametrize("closes", [False, True], ids=["reads the body", "closes at once"])
@pytest.mark.parametrize("limit", [4_000, 9_000, 40_000])
def test_request_that_is_too_large_is_split(tmp_path, server, url, limit, closes):
    """A receiver with any limit above one event has all events in order, each once."""
    folder = make_run(tmp_path / "runs", batches=12).folder
    server.limit, server.closes = limit, closes
    with HttpSink(url) as receiver:
        sent = forward(folder, receiver, Cursor(tmp_path / "c", "a"), batch=1000)
    assert taken(server) == ids(folder)
    assert sent.events == len(ids(folder))
    assert sent.requests == len(server.bodies)
    assert max(map(len, server.bodies)) <= limit


def test_event_that_is_too_large_is_named_and_keeps_the_cursor(tmp_path, server, url):
    """The events before it have arrived, and the next call continues there."""
    folder = make_run(tmp_path / "runs", batches=10).folder
    sizes = [len(line) for line in lines(folder)]
    server.limit = max(sizes) - 1
    with HttpSink(url) as receiver:
        with pytest.raises(
            BadInputError, match=rf"413 .* {max(sizes):,} bytes, event \d+ of log 1-0; .*--type"
        ):
            forward(folder, receiver, Cursor(tmp_path / "c", "a"), batch=100)
        server.limit = None
        forward(folder, receiver, Cursor(tmp_path / "c", "a"), batch=100)
    assert taken(server) == ids(folder)


def test_forward_with_kinds_sends_selected_events_only(tmp_path, server, url):
    """The cursor also advances over the events that are not sent."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    cursor = Cursor(tmp_path / "c", "a")
    with HttpSink(url, {"Authorization": "Bearer t"}) as receiver:
        forward(folder, receiver, cursor, kinds=["evaluation.recorded", "run.finished"])
    assert {one[1] for one in server.taken} <= {"ockham.evaluation.recorded.v1", "ockham.run.finished.v1"}
    assert server.requests[0]["Authorization"] == "Bearer t"
    assert cursor.position == {(1, 0): len(lines(folder))}


def test_forward_waits_for_the_newline_of_a_torn_line(tmp_path, server, url):
    """Half an event is not sent."""
    folder = make_run(tmp_path / "runs", batches=5).folder
    whole = ids(folder)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b'{"specversion":')
    with HttpSink(url) as receiver:
        forward(folder, receiver, Cursor(tmp_path / "c", "a"))
    assert taken(server) == whole


@pytest.mark.parametrize(
    "bad", ["", "localhost", "ftp://x/y", "http://", "http://u:p@h/", "http://h:99999/", "file:///etc/passwd"]
)
def test_invalid_url_is_refused(bad):
    """The error names accepted forms."""
    with pytest.raises(BadInputError):
        HttpSink(bad)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"run_id":"b","next":{}}', b'{"run_id":"a","next":{"x":1}}']
)
def test_invalid_cursor_file_is_refused(tmp_path, content):
    """Sending everything again is the user's decision."""
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(BadInputError, match="cursor"):
        Cursor(tmp_path / "c", "a")


def test_forward_command_stores_the_cursor_in_the_state_folder(tmp_path, server, url, monkeypatch):
    """The run folder is unchanged."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = make_run(tmp_path / "runs", batches=5).folder
    before = sorted(folder.path.rglob("*"))
    done = CliRunner().invoke(build_app(), ["--runs", str(tmp_path / "runs"), "forward", "a", "--to", url])
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"{len(server.taken)} events in 1 request" in done.stderr
    assert sorted(folder.path.rglob("*")) == before
    assert len(list((tmp_path / "state").rglob("*.json"))) == 1
    odd = CliRunner().invoke(
        build_app(), ["--runs", str(tmp_path / "runs"), "forward", "a", "--to", url, "--type", "x"]
    )
    assert isinstance(odd.exception, BadInputError)
    assert RunFolder(tmp_path / "runs", "a").exists()


@pytest.mark.parametrize(
    "odd",
    [
        b'{"type":"a","data":{}},{"type":"ockham.decision.made.v1","data":{"sequence":1}}',
        b"run.finished",
        b"[]",
        b'{"type":7,"data":{}}',
        b'{"type":"run.finished"}',
        b"]",
    ],
)
@pytest.mark.parametrize("kinds", [(), ("decision.made",)])
def test_line_that_is_not_an_event_is_not_sent(tmp_path, server, url, odd, kinds):
    """Earlier lines have been sent."""
    folder = run_folder(tmp_path)
    log = LogWriter(folder, 1, 0, policy_revision=REVISION)
    for i in range(4):
        log.append("decision.made", decision(i), iter_num=i)
    log.close()
    segment = folder.segments(1, 0)[0]
    head, *rest = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([head, odd + b"\n", *rest]))
    cursor = Cursor(tmp_path / "cursor", "a")
    with (
        HttpSink(url) as receiver,
        pytest.raises(UnverifiableError, match="event 1 of log 1-0 of run 'a' is not an event"),
    ):
        forward(folder, receiver, cursor, batch=1, kinds=kinds)
    assert [sequence for *_, sequence in server.taken] == [0]
    with HttpSink(url) as receiver, pytest.raises(UnverifiableError):
        forward(folder, receiver, Cursor(tmp_path / "another", "a"), batch=100, kinds=kinds)
    assert len(server.taken) == 1
