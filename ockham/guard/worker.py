"""Child process of the guard: runs queries on a locked catalog, with limits.

This is the second layer of the guard. A request is one line of JSON: sql, parameters, limit. A response is
one line of JSON, followed by Arrow IPC data; the field `bytes` contains its length. DuckDB has no access to
the network, extensions or settings. The process cannot write files. It has limits for memory and CPU time,
because DuckDB's memory limit does not stop `repeat` or `lpad`.
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
from ockham.record.tlog.note import parse_key

MAX_COLUMNS = 2_000


def main(arguments: list[str], *, read_only: bool) -> int:
    """Run queries until the parent closes the pipe, and return the exit status.

    Args:
        arguments: Command-line arguments, see `ockham.guard.__main__`.
        read_only: True if this process has no write access, so that DuckDB may open the log files itself.

    """
    requests = sys.stdin.buffer
    responses = sys.stdout.buffer
    memory, cpu, threads = (int(argument) for argument in arguments[1:4])
    readable = Path(arguments[0]).resolve() if read_only else None
    options = json.loads(arguments[5])
    tables = _odr_tables(requests)
    try:
        catalog = Catalog(
            readable or arguments[0],
            tables,
            run_ids=arguments[6:] or None,
            sandboxed=readable is None,
            allow_spill=False,
            verified=options["verified"],
            keys=[parse_key(text) for text in options["keys"]],
            pinned=options["pinned"],
        )
    except OckhamError as error:
        _write_response(responses, _error_response(error), b"")
        return 0
    if threads:
        catalog.connection.execute(f"set threads = {threads}")
    catalog.lock_down(f"{memory}MB", readable)
    _limit_resources(memory)
    _write_response(
        responses,
        {
            "ready": [row["view"] for row in catalog.rows("select distinct view from data_dictionary")],
            "reader": "arrow" if readable is None else "duckdb",
        },
        b"",
    )
    for line in requests:
        _limit_cpu(cpu)
        head, body = _run_query(catalog, json.loads(line))
        _write_response(responses, head, body)
    return 0


def _run_query(catalog: Catalog, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    limit = int(request["limit"])
    text = request["sql"]
    # The outer limit stops DuckDB from computing more rows than needed.
    if request["wrap"]:
        text = f"select * from (\n{text}\n) limit {limit + 1}"  # noqa: S608 - the parent has checked it
    try:
        table = catalog.sql(text, request["parameters"])
    except OckhamError as error:
        return _error_response(error), b""
    except MemoryError:
        return _error_response(
            QueryLimitError("query exceeded the memory limit; select fewer rows or columns")
        ), b""
    except pa.ArrowException as error:
        return {"error": f"result cannot be read: {error}"}, b""
    if table.num_columns > MAX_COLUMNS:
        return {"error": f"result has {table.num_columns} columns; the limit is {MAX_COLUMNS}"}, b""
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
    """Return the ODR tables that the parent sends first: a line with names and sizes, then Arrow data."""
    tables = {}
    for name, size in json.loads(requests.readline()):
        with pa.ipc.open_stream(requests.read(size)) as reader:
            tables[name] = reader.read_all()
    return tables


def _limit_resources(memory_mb: int) -> None:
    """Forbid writing files, and limit the address space.

    The limit is the current size plus twice the memory of DuckDB.
    """
    used = _address_space_bytes()
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_AS, used + 2 * memory_mb * 1_000_000)
    _set_limit(resource.RLIMIT_CORE, 0)


def _limit_cpu(seconds: int) -> None:
    """Allow *seconds* of CPU time for the next query."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, resource.RLIM_INFINITY)
    )


def _set_limit(name: int, value: int) -> None:
    resource.setrlimit(name, (value, value))


def _address_space_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    # Without /proc, use the size that a process with DuckDB and Arrow usually maps.
    except OSError:
        return 4_000_000_000
