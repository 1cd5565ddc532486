"""Export of events to an OpenTelemetry collector as log records, with OTLP over HTTP.

The body is the event's line in the log. The attributes follow the semantic conventions for CloudEvents
(`cloudevents.event_id` ...) and add Ockham's under `ockham.`. OpenTelemetry's exporter does not distinguish a
refusal from an outage, and does not report events that the collector dropped. So the response is also read
here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from os import environ
from typing import Any, Self

import orjson
import requests
from google.protobuf.message import DecodeError
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ockham.errors import DISTRIBUTION, BadInputError
from ockham.event import event_kind, parse_number
from ockham.forwarding import (
    RETRY_STATUSES,
    TOO_LARGE_STATUS,
    RequestTooLargeError,
    SinkUnavailableError,
    parse_sink_url,
)

PATH = "/v1/logs"
_SEVERITIES: Mapping[str, SeverityNumber] = {
    "context.recorded": SeverityNumber.DEBUG,
    "plugin_state.recorded": SeverityNumber.DEBUG,
    "log.gap": SeverityNumber.WARN,
    "log.recovered": SeverityNumber.WARN,
    "rollback.performed": SeverityNumber.WARN,
    "data.skipped": SeverityNumber.WARN,
    "adapter.reverted": SeverityNumber.WARN,
    "plugin.failed": SeverityNumber.ERROR,
    "verdict.not_applied": SeverityNumber.ERROR,
    "rank.diverged": SeverityNumber.ERROR,
    "log.halted": SeverityNumber.ERROR,
}
_TEXTS = ("plugin", "hook", "action", "reason_code")
_COUNTS = ("attempt", "rank", "sequence", "iter_num")
_NUMBERS = ("observed", "threshold")


class OtlpSink:
    """Sink of `ockham.forwarding.forward`: one collector.

    Args:
        url: URL of the collector, such as http://127.0.0.1:4318. Without a path, the path for logs is added.
        headers: Sent with every request, in addition to $OTEL_EXPORTER_OTLP_HEADERS.
        timeout: Seconds per request, including the exporter's short retries.

    Raises:
        BadInputError: If events cannot be sent to the URL.

    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> None:
        parts = parse_sink_url(url)
        self.endpoint = parts.netloc
        if parts.path in ("", "/"):
            url = parts._replace(path=PATH).geturl()
        self._response: requests.Response | None = None
        session = requests.Session()
        session.hooks["response"].append(self._on_response)
        self._exporter = OTLPLogExporter(
            endpoint=url, headers=dict(headers or {}), timeout=timeout, session=session
        )
        version = metadata.version(DISTRIBUTION)
        self._scope = InstrumentationScope("ockham", version)
        self._resource_attributes = {
            "service.name": environ.get("OTEL_SERVICE_NAME", "ockham"),
            "service.version": version,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def send(self, lines: Sequence[bytes], *, batched: bool = True) -> None:
        """Export lines as one request. OTLP has only batches.

        Args:
            lines: Lines of the log.
            batched: Ignored, for compatibility with other sinks.

        Raises:
            SinkUnavailableError: If the request may succeed later.
            RequestTooLargeError: If the collector accepts only smaller requests.
            BadInputError: If the collector refuses these events permanently, or has dropped some of them.

        """
        self._response = None
        try:
            records = [self._record(line) for line in lines]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BadInputError(f"not an event of Ockham, so it is not exported: {error!r:.200}") from None
        succeeded = self._exporter.export(records) is LogRecordExportResult.SUCCESS
        response: requests.Response | None = self._response
        if response is None:
            raise SinkUnavailableError(f"{self.endpoint}: no response")
        status = f"{response.status_code} {response.reason}"
        if response.status_code in RETRY_STATUSES:
            raise SinkUnavailableError(f"{self.endpoint} answered {status}")
        if response.status_code == TOO_LARGE_STATUS:
            raise RequestTooLargeError(f"{self.endpoint} answered {status}")
        if not succeeded or not 200 <= response.status_code < 300:
            raise BadInputError(
                f"{self.endpoint} answered {status}; an OpenTelemetry collector answers 200 at {PATH}"
            )
        self._check_partial_success(response)

    def _check_partial_success(self, response: requests.Response) -> None:
        """Raise if the collector answered 200 but dropped some events. OTLP forbids sending those again."""
        try:
            partial = ExportLogsServiceResponse.FromString(response.content).partial_success
        except DecodeError:
            # The response is JSON or empty.
            return
        if partial.rejected_log_records:
            rejected, cause = partial.rejected_log_records, partial.error_message
            raise BadInputError(f"{self.endpoint} dropped {rejected} events: {cause!r:.200}")

    def _on_response(self, response: requests.Response, *_: object, **__: object) -> None:
        self._response = response

    def _record(self, line: bytes) -> ReadableLogRecord:
        event = orjson.loads(line)
        run_id = event["source"].rpartition("/")[2]
        record = LogRecord(
            timestamp=_nanoseconds(event["time"]),
            observed_timestamp=time.time_ns(),
            body=line.decode(),
            severity_number=severity(event),
            severity_text=severity(event).name,
            event_name=event["type"],
            attributes=attributes(event, run_id),
        )
        resource = Resource.create({**self._resource_attributes, "service.instance.id": run_id})
        return ReadableLogRecord(record, resource, self._scope)


def attributes(event: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Return the attributes of an event: the envelope, and position and verdict under `ockham.`."""
    data = event["data"]
    result: dict[str, Any] = {
        "cloudevents.event_id": event["id"],
        "cloudevents.event_source": event["source"],
        "cloudevents.event_spec_version": event["specversion"],
        "cloudevents.event_type": event["type"],
        "cloudevents.event_subject": event["subject"],
        "ockham.run_id": run_id,
    }
    for names, convert in ((_COUNTS, int), (_TEXTS, str), (_NUMBERS, parse_number)):
        result |= {f"ockham.{name}": convert(data[name]) for name in names if data.get(name) is not None}
    return result


def severity(event: Mapping[str, Any]) -> SeverityNumber:
    """Return the severity of an event: DEBUG for contexts, INFO for verdicts, WARN or ERROR for problems."""
    kind = event_kind(event["type"])
    if kind == "run.finished" and event["data"]["reason_code"] != "COMPLETED":
        return SeverityNumber.WARN
    return _SEVERITIES.get(kind, SeverityNumber.INFO)


def _nanoseconds(text: str) -> int:
    time_utc = datetime.fromisoformat(text)
    return int(time_utc.timestamp()) * 1_000_000_000 + time_utc.microsecond * 1_000
