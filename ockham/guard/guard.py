"""Guard: checks user SQL against the allow-list, then runs it in a child process with limits."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa

from ockham.errors import (
    MissingParameterError,
    OckhamError,
    QueryError,
    QueryLimitError,
    RunError,
    UnverifiableError,
)
from ockham.guard.inspection import rewrite_inspection
from ockham.guard.versions import require_measured_versions
from ockham.record.tlog.note import VerifierKey

MEMORY_MB = 1_000
START_SECONDS = 60.0
MAX_RESPONSE_BYTES = 512_000_000


class QueryResult(NamedTuple):
    """Rows of a query, and whether there were more than the limit."""

    table: pa.Table
    truncated: bool


class Guard:
    """Runs user SQL over a folder of runs. Use it as a context manager, or call `close`.

    The child process starts with the first query. It is killed when a query exceeds its limits.

    Args:
        runs: Folder of runs.
        odr_tables: Tables of decision records, see `Catalog`.
        only: IDs of the runs to read. None reads all.
        timeout: Seconds per query.
        limit: Maximum number of rows of a result.
        memory_mb: Memory per query, in 1e6 bytes.
        threads: Threads per query, 0 for DuckDB's default. With 1, sums of floats are reproducible.
        reader: Library that opens Parquet files, see `ockham.guard.__main__`. After the first query it
            contains the library in use.
        verified: Read only signed and verified lines, see `Catalog`.
        keys: Trusted verifier keys, see `Catalog`.
        pinned: All lines are evidence, see `Catalog`.

    """

    def __init__(
        self,
        runs: str | Path = "runs",
        odr_tables: Mapping[str, pa.Table] | None = None,
        *,
        only: Sequence[str] | None = None,
        timeout: float = 30.0,
        limit: int = 100_000,
        memory_mb: int = MEMORY_MB,
        threads: int = 0,
        reader: Literal["duckdb", "arrow"] = "duckdb",
        verified: bool = False,
        keys: Sequence[VerifierKey] = (),
        pinned: bool = False,
    ) -> None:
        require_measured_versions()
        self.runs = Path(runs)
        self.only = only
        self.timeout = timeout
        self.limit = limit
        self.memory_mb = memory_mb
        self.threads = threads
        self.reader = reader
        self._options = {"verified": verified, "keys": [str(key) for key in keys], "pinned": pinned}
        self._odr_tables = dict(odr_tables or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._views: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def query(
        self, text: str, parameters: Mapping[str, Any] | None = None, *, explain: bool = False
    ) -> QueryResult:
        """Run one query and return its rows.

        Args:
            text: One SELECT over the audit views, or DESCRIBE, SUMMARIZE or SHOW TABLES. Parameters are
                written `$name`.
            parameters: Values of the parameters: text, numbers, booleans or None.
            explain: Return DuckDB's plan instead of rows.

        Raises:
            QueryError: If the query is refused or fails.
            QueryLimitError: If the query exceeds the time or memory limit.
            UnverifiableError: If a file of the runs cannot be read.

        """
        if self._child is None:
            self._start()
        sql = rewrite_inspection(text.strip().rstrip(";").strip(), self._views)
        request = {
            "sql": f"explain {sql}" if explain else sql,
            "parameters": dict(parameters or {}) or None,
            "limit": self.limit,
            "wrap": not explain,
        }
        head, body = self._exchange(json.dumps(request).encode() + b"\n", self.timeout)
        if "error" in head:
            raise _to_error(head)
        with pa.ipc.open_stream(body) as reader:
            return QueryResult(reader.read_all(), bool(head["truncated"]))

    def close(self) -> None:
        """Kill the child process. Calling it again has no effect."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "ockham.guard",
            str(self.runs),
            str(self.memory_mb),
            str(int(self.timeout) + 1),
            str(self.threads),
            self.reader,
            json.dumps(self._options),
            *(self.only or []),
        ]
        # Pass only these variables, so that a query cannot read secrets from the environment.
        environment = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "PYTHONPATH")
            if name in os.environ
        }
        self._child = subprocess.Popen(  # noqa: S603 - a module of this package, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        payloads = {name: _to_ipc(table) for name, table in self._odr_tables.items()}
        sizes = json.dumps([(name, len(data)) for name, data in payloads.items()]).encode() + b"\n"
        head, _ = self._exchange(sizes + b"".join(payloads.values()), START_SECONDS)
        if "error" in head:
            self.close()
            raise _to_error(head)
        self._views, self.reader = list(head["ready"]), head["reader"]

    def _exchange(self, request: bytes, timeout: float) -> tuple[dict[str, Any], bytes]:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise QueryError("query process is not running; run the query again")
        deadline = time.monotonic() + timeout
        try:
            child.stdin.write(request)
            child.stdin.flush()
            buffer = b""
            while b"\n" not in buffer:
                buffer += self._read(deadline, timeout)
            line, _, body = buffer.partition(b"\n")
            head = json.loads(line)
            parts, size = [body], len(body)
            while size < min(head["bytes"], MAX_RESPONSE_BYTES):
                parts.append(self._read(deadline, timeout))
                size += len(parts[-1])
            if head["bytes"] > MAX_RESPONSE_BYTES:
                self.close()
                head = {"error": f"result has {head['bytes']} bytes; the limit is {MAX_RESPONSE_BYTES}"}
            return head, b"".join(parts)
        except BrokenPipeError:
            self.close()
            raise QueryLimitError("query process ended; the query exceeded its memory or CPU limit") from None
        except QueryError:
            self.close()
            raise

    def _read(self, deadline: float, timeout: float) -> bytes:
        """Return the next bytes of the response, or raise QueryLimitError after the deadline."""
        if self._child is None or self._child.stdout is None:
            raise QueryError("query process is not running; run the query again")
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise QueryLimitError(
                    f"query took longer than {timeout:g} s and was stopped; --timeout sets a higher limit"
                )
        data = os.read(self._child.stdout.fileno(), 1 << 20)
        if not data:
            raise QueryLimitError("query process ended; the query exceeded its memory or CPU limit")
        return data


# Error classes that the worker reports by name; every other failure is a QueryError.
_ERROR_CLASSES: Mapping[str, type[OckhamError]] = {
    cls.__name__: cls for cls in (UnverifiableError, MissingParameterError, QueryLimitError, RunError)
}


def _to_error(head: Mapping[str, Any]) -> OckhamError:
    """Return the error of a response, with the class that the catalog raised in the child."""
    return _ERROR_CLASSES.get(str(head.get("class")), QueryError)(str(head["error"]))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
