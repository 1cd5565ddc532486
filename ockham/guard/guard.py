"""Guard: checks SQL by the rules, then has it answered by a warm child process that is killed when it takes too long."""

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

from ockham.errors import MissingParameterError, OckhamError, QueryError, QueryLimitError, UnverifiableError
from ockham.guard.sql_allowlist import check_query

MEMORY_MB = 1_000
START_SECONDS = 60.0
MAX_RESPONSE_BYTES = 512_000_000


class QueryResult(NamedTuple):
    """The rows, and whether there were more than the limit."""

    table: pa.Table
    truncated: bool


class Guard:
    """Answers SQL of people over a folder of runs; use as a context manager, or close it.

    Args:
        runs: the folder of runs.
        odr_tables: as for `Catalog`.
        only: IDs of the runs to look at; None: all.
        timeout: seconds that one query may take.
        limit: rows that one answer may have.
        memory_mb: memory that a query may use, 1e6 bytes.
        threads: of a query, 0 for DuckDB's own choice; with 1 a sum of floats has the same digits each time.
        reader: who opens Parquet; after the first query, who really does (see `ockham.guard.__main__`).

    """

    def __init__(
        self, runs: str | Path = "runs", odr_tables: Mapping[str, pa.Table] | None = None, *,
        only: Sequence[str] | None = None, timeout: float = 30.0, limit: int = 100_000, memory_mb: int = MEMORY_MB,
        threads: int = 0, reader: Literal["duckdb", "arrow"] = "duckdb",
    ) -> None:  # fmt: skip
        self.runs, self.only, self.timeout, self.limit = Path(runs), only, timeout, limit
        self.memory_mb, self.threads, self.reader = memory_mb, threads, reader
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
        """The answer to one query.

        Args:
            text: one SELECT over the audit views; parameters are written `$name`.
            parameters: their values: text, numbers, booleans, None.
            explain: give DuckDB's plan in place of rows.

        Raises:
            QueryError: if the query is refused, fails, takes too long or too much memory.
            UnverifiableError: if a file of the runs cannot be read.

        """
        if self._child is None:
            self._start()
        stripped = text.strip().rstrip(";").strip()
        check_query(stripped, self._views)
        request = {
            "sql": f"explain {stripped}" if explain else stripped, "parameters": dict(parameters or {}) or None,
            "limit": self.limit, "wrap": not explain,
        }  # fmt: skip
        head, body = self._exchange(json.dumps(request).encode() + b"\n", self.timeout)
        if "error" in head:
            raise _to_error(head)
        with pa.ipc.open_stream(body) as reader:
            return QueryResult(reader.read_all(), bool(head["truncated"]))

    def close(self) -> None:
        """End the child."""
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
        command = [sys.executable, "-P", "-m", "ockham.guard", str(self.runs), str(self.memory_mb),
                 str(int(self.timeout) + 1), str(self.threads), self.reader, *(self.only or [])]  # fmt: skip
        # A short environment: what is not there can't be read by a query.
        kept = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "PYTHONPATH")
            if name in os.environ
        }
        self._child = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept,
            start_new_session=True,
        )
        sent = {name: _ipc(table) for name, table in self._odr_tables.items()}
        sizes = json.dumps([(name, len(data)) for name, data in sent.items()]).encode() + b"\n"
        head, _ = self._exchange(sizes + b"".join(sent.values()), START_SECONDS)
        if "error" in head:
            self.close()
            raise _to_error(head)
        self._views, self.reader = list(head["ready"]), head["reader"]

    def _exchange(self, request: bytes, timeout: float) -> tuple[dict[str, Any], bytes]:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise QueryError("the process that answers is not there")
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
                head = {
                    "error": f"an answer of {head['bytes']} bytes; at most {MAX_RESPONSE_BYTES} are given"
                }
            return head, b"".join(parts)
        except BrokenPipeError:
            self.close()
            raise QueryLimitError(
                "the query ended the process that answers: it needs more memory or time than it may have"
            ) from None
        except QueryError:
            self.close()
            raise

    def _read(self, deadline: float, timeout: float) -> bytes:
        """Some bytes of the answer, before the deadline."""
        if self._child is None or self._child.stdout is None:
            raise QueryError("the process that answers is not there")
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise QueryLimitError(
                    f"the query took longer than {timeout:g} s and was ended; --timeout gives it more"
                )
        data = os.read(self._child.stdout.fileno(), 1 << 20)
        if not data:
            raise QueryLimitError(
                "the query ended the process that answers: it needs more memory or time than it may have"
            )
        return data


# Error classes that the worker reports by name; every other failure is a QueryError.
_ERROR_CLASSES: Mapping[str, type[OckhamError]] = {
    cls.__name__: cls for cls in (UnverifiableError, MissingParameterError, QueryLimitError)
}


def _to_error(head: Mapping[str, Any]) -> OckhamError:
    """What the child could not do, as the error that whoever asks the catalog itself gets."""
    return _ERROR_CLASSES.get(str(head.get("class")), QueryError)(str(head["error"]))


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
