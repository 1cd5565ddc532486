"""Experiment trackers and a logger that record the same decisions as Ockham.

Each class opens a store, records a decision as its users would, closes the store, and counts the readable
records.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The interpreter of the trackers runs this file without the project in its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ockham.event import Change, Decision

CHANGES = (Change("updated", True, False),)


def decision(i: int, plugin: str = "gate") -> Decision:
    """Return a decision as the gate makes it."""
    return Decision(
        i,
        0,
        "on_batch_start",
        plugin,
        1,
        False,
        "SKIP",
        "BELOW_THRESHOLD",
        1.5 + i % 7,
        2.0,
        CHANGES,
        {"q": 0.25, "z": -0.5},
    )


def fields(record: Decision) -> dict[str, Any]:
    """Return the complete decision as a dictionary, for tools that accept any keys."""
    return {**record._asdict(), "changes": [change._asdict() for change in record.changes]}


class Ockham:
    """Ockham's log writer.

    Only this tool validates each event, signs the log, and reports which events are durable.
    """

    def __init__(self, folder: Path) -> None:
        from ockham.record.durable_io import atomic_write
        from ockham.record.log_writer import LogWriter
        from ockham.record.run_folder import RunFolder

        self.folder = RunFolder(folder, "a")
        self.folder.create()
        atomic_write(self.folder.run_json, b"{}")
        self.log = LogWriter(self.folder, 1, 0, policy_revision="sha256:" + "ab" * 32)

    def emit(self, record: Decision) -> None:
        self.log.append("decision.made", record, iter_num=record.iter_num)

    def acknowledged(self) -> int:
        return self.log.flush().size

    def close(self) -> None:
        self.log.close()

    @staticmethod
    def count(folder: Path) -> int:
        return sum(path.read_bytes().count(b'decision.made.v1","s') for path in folder.rglob("*.jsonl"))


class Structlog:
    """JSON lines written by structlog to a file that is flushed after each line."""

    def __init__(self, folder: Path) -> None:
        import structlog

        folder.mkdir(parents=True)
        self.file = (folder / "log.jsonl").open("w")
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self.log = structlog.wrap_logger(
            structlog.WriteLogger(self.file), processors=[stamp, structlog.processors.JSONRenderer()]
        )

    def emit(self, record: Decision) -> None:
        self.log.info("decision", **fields(record))

    def close(self) -> None:
        self.file.close()

    @staticmethod
    def count(folder: Path) -> int:
        return (folder / "log.jsonl").read_bytes().count(b"\n")


class TensorBoard:
    """Two scalars. TensorBoard cannot store reason, plugin and changes."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def emit(self, record: Decision) -> None:
        self.writer.add_scalar("gate/observed", record.observed, record.iter_num)
        self.writer.add_scalar("gate/threshold", record.threshold, record.iter_num)

    def close(self) -> None:
        self.writer.close()

    @staticmethod
    def count(folder: Path) -> int:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        values = 0
        for path in folder.rglob("events*"):
            # An incomplete record ends the file for its reader.
            with contextlib.suppress(Exception):
                values += sum(len(event.summary.value) for event in EventFileLoader(str(path)).Load())
        return values // 2


class MLflow:
    """Two metrics, logged synchronously, MLflow's default.

    The store is SQLite, the default since version 3.
    """

    def __init__(self, folder: Path) -> None:
        import mlflow

        folder.mkdir(parents=True)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment("a")
        self.mlflow, self.run = mlflow, mlflow.start_run(log_system_metrics=False)

    def emit(self, record: Decision) -> None:
        self.mlflow.log_metrics(
            {"observed": record.observed, "threshold": record.threshold}, step=record.iter_num
        )

    def close(self) -> None:
        self.mlflow.end_run()

    @staticmethod
    def count(folder: Path) -> int:
        with sqlite3.connect(folder / "mlflow.db") as base:
            return int(base.execute("select count(*) from metrics where key = 'observed'").fetchone()[0])


class Wandb:
    """The complete decision as a dictionary, in offline mode."""

    def __init__(self, folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True)
        quiet = wandb.Settings(silent=True, x_disable_stats=True, console="off")
        self.run = wandb.init(project="a", dir=str(folder), mode="offline", settings=quiet)

    def emit(self, record: Decision) -> None:
        self.run.log(fields(record))

    def close(self) -> None:
        self.run.finish()

    @staticmethod
    def count(folder: Path) -> int:
        from wandb.proto import wandb_internal_pb2

        count = 0
        for path in {path.resolve() for path in folder.rglob("*.wandb")}:
            for data in _leveldb_records(path.read_bytes()):
                record = wandb_internal_pb2.Record()
                # An incomplete record cannot be parsed.
                with contextlib.suppress(Exception):
                    record.ParseFromString(data)
                    count += record.HasField("history")
        return count


def _leveldb_records(data: bytes, header_bytes: int = 7, block: int = 32_768) -> Iterator[bytes]:
    """Yield the records of a LevelDB log after a header. A record is: checksum 4, length 2, type 1, data."""
    at, parts = header_bytes, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        # A complete record, or its last part.
        if kind in (1, 4):
            yield parts
            parts = b""


class Trackio:
    """The complete decision as a dictionary, in a local database without the dashboard."""

    def __init__(self, folder: Path) -> None:
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio

        self.trackio = trackio
        with contextlib.redirect_stdout(sys.stderr):
            trackio.init(project="a", name="a", embed=False, auto_log_gpu=False)

    def emit(self, record: Decision) -> None:
        self.trackio.log(fields(record), step=record.iter_num)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self.trackio.finish()

    @staticmethod
    def count(folder: Path) -> int:
        count = 0
        for path in folder.rglob("*.db"):
            with sqlite3.connect(path) as base, contextlib.suppress(sqlite3.Error):
                count += int(base.execute("select count(*) from metrics").fetchone()[0])
        return count


class Aim:
    """Two tracked values with the plugin as context.

    The reader of Aim 3.29 returned no values after a run on this machine, so they are not counted.
    """

    def __init__(self, folder: Path) -> None:
        from aim import Run

        folder.mkdir(parents=True)
        self.run = Run(repo=str(folder), system_tracking_interval=None, log_system_params=False)

    def emit(self, record: Decision) -> None:
        where = {"plugin": record.plugin}
        self.run.track(record.observed, name="observed", step=record.iter_num, context=where)
        self.run.track(record.threshold, name="threshold", step=record.iter_num, context=where)

    def close(self) -> None:
        self.run.close()

    @staticmethod
    def count(folder: Path) -> int:
        from aim import Repo, Run

        count = 0
        for name in Repo(str(folder)).list_all_runs():
            for metric in Run(name, repo=str(folder), read_only=True).metrics():
                count += len(metric.values.sparse_list()[0]) if metric.name == "observed" else 0
        return count


TOOLS: dict[str, Any] = {
    "ockham": Ockham,
    "structlog": Structlog,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "aim": Aim,
    "mlflow": MLflow,
    "wandb": Wandb,
}
