"""The second layer: a process that can do nothing but answer.

It reads one request a line (JSON: sql, parameters, limit) and writes one answer: a line of JSON, then as many bytes
of Arrow IPC as the line says. DuckDB has no access to network, extensions or settings; the process can write no file,
and has limits of memory and CPU time, because DuckDB's own memory limit does not stop `repeat` or `lpad`.
`ockham.guard.__main__` starts it.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ockham.catalog import Catalog
from ockham.errors import OckhamError, QueryLimitError

MAX_COLUMNS = 2_000


def main(arguments: list[str], *, read_only: bool) -> int:
    """Answer until the parent closes the pipe.

    Args:
        arguments: as `ockham.guard.__main__` names them.
        read_only: whether this process can write nothing any more, so that DuckDB may open the evidence by itself.

    """
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    memory, cpu, threads = (int(argument) for argument in arguments[1:4])
    readable = Path(arguments[0]).resolve() if read_only else None
    tables = _odr_tables(requests)
    try:
        catalog = Catalog(
            readable or arguments[0],
            tables,
            run_ids=arguments[5:] or None,
            sandboxed=readable is None,
            allow_spill=False,
        )
    except OckhamError as error:
        _write_response(answers, _error_response(error), b"")
        return 0
    if threads:
        catalog.connection.execute(f"set threads = {threads}")
    catalog.lock_down(f"{memory}MB", readable)
    _limit(memory)
    _write_response(
        answers,
        {
            "ready": [row["view"] for row in catalog.rows("select distinct view from data_dictionary")],
            "reader": "arrow" if readable is None else "duckdb",
        },
        b"",
    )
    for line in requests:
        _limit_cpu(cpu)
        head, body = _run_query(catalog, json.loads(line))
        _write_response(answers, head, body)
    return 0


def _run_query(catalog: Catalog, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    limit = int(request["limit"])
    # Wrapped, so that no more rows than asked for are ever made ready.
    text = f"select * from (\n{request['sql']}\n) limit {limit + 1}" if request["wrap"] else request["sql"]  # noqa: S608 - checked by the rules before
    try:
        table = catalog.sql(text, request["parameters"])
    except OckhamError as error:
        return _error_response(error), b""
    except MemoryError:
        return _error_response(QueryLimitError("the query needs more memory than it may have")), b""
    except pa.ArrowException as error:
        return {"error": f"the answer cannot be read: {error}"}, b""
    if table.num_columns > MAX_COLUMNS:
        return {"error": f"an answer of {table.num_columns} columns; at most {MAX_COLUMNS} are given"}, b""
    truncated = table.num_rows > limit
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.slice(0, limit))
    return {"truncated": truncated}, sink.getvalue().to_pybytes()


def _error_response(error: OckhamError) -> dict[str, Any]:
    return {"error": str(error), "class": type(error).__name__}


def _write_response(out: BinaryIO, head: dict[str, Any], body: bytes) -> None:
    out.write(json.dumps({**head, "bytes": len(body)}).encode() + b"\n")
    out.write(body)
    out.flush()


def _odr_tables(requests: BinaryIO) -> dict[str, pa.Table]:
    """The ODR tables that the parent sends first: for each a line with name and bytes, then Arrow IPC."""
    tables = {}
    for name, size in json.loads(requests.readline()):
        with pa.ipc.open_stream(requests.read(size)) as reader:
            tables[name] = reader.read_all()
    return tables


def _limit(memory: int) -> None:
    """No file can be written, no process started; address space ends a good way above what DuckDB may use."""
    used = _address_space()
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_AS, used + 2 * memory * 1_000_000)
    _set(resource.RLIMIT_CORE, 0)


def _limit_cpu(seconds: int) -> None:
    """CPU seconds for one more query."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, resource.RLIM_INFINITY)
    )


def _set(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: what a process with DuckDB and Arrow usually maps
        return 4_000_000_000
