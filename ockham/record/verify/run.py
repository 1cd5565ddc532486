"""Verify a run offline. Reads only, and trusts only the bytes on disk and the given keys."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, NamedTuple

import orjson

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.run_folder import LEDGER, RunFolder, read_regular_file
from ockham.record.tlog.note import VerifierKey, local_verifier_key, parse_key
from ockham.record.verify.files import check_checkpoints, check_log_references
from ockham.record.verify.ledger import check_ledger
from ockham.record.verify.log import LogVerifier
from ockham.record.verify.parquet import check_parquet
from ockham.record.verify.pins import pinned_heads
from ockham.record.verify.ranks import check_cross_log
from ockham.record.verify.report import VerificationReport

# Segments of 20,000 events: below, starting a process costs more than it saves.
MIN_SEGMENTS_PER_WORKER = 3
Progress = Callable[[int], None]


def verify_run(
    folder: RunFolder,
    *,
    keys: Sequence[VerifierKey] = (),
    pins: Sequence[bytes] = (),
    parquet: bool = True,
    jobs: int | None = 1,
    progress: Progress | None = None,
) -> VerificationReport:
    """Check every byte of a run or of the ledger.

    Args:
        folder: The run.
        keys: Trusted verifier keys. Without one, the key that the run names is used, and a note reports that.
        pins: Signed tree heads that were stored elsewhere.
        parquet: Also compare each Parquet file with the lines.
        jobs: Processes that share the segments. None uses one per core if the log is long enough.
        progress: Called with the number of events of each finished segment.

    Raises:
        UnverifiableError: If there is no log, or it cannot be read.
        BadInputError: If it is not a pin, or a pin of another run.

    Example:
        >>> report = verify_run(RunFolder("runs", "night-1"))  # doctest: +SKIP
        >>> report.sound  # doctest: +SKIP
        True

    """
    report = VerificationReport(folder.run_id)
    if not folder.logs():
        raise UnverifiableError(f"{folder.path} has no log")
    accepted = _trusted_keys(folder, keys, report, vouched=bool(pins))
    pinned = pinned_heads(folder, pins, accepted, report)
    checks: dict[tuple[int, int], LogVerifier] = {}
    with worker_pool(folder, jobs) as pool:
        for place in folder.logs():
            parquet_result = pool.submit(_derived, folder, place) if parquet else None
            check = checks[place] = LogVerifier(folder, *place, accepted, pinned.get(place, []), report)
            for lines in check.read(pool):
                if progress is not None:
                    progress(lines)
            check_log_references(folder, place, check.summary, report)
            report.logs.append(check.finish())
            if parquet_result is not None:
                report.merge(parquet_result.result())
    if policies := {revision for check in checks.values() for revision in check.summary.policies}:
        # once, however many logs name one.
        report.count("policies", len(policies))
    # A later attempt prunes too.
    pruned = frozenset().union(*(check.summary.pruned for check in checks.values()))
    for check in checks.values():
        check_checkpoints(folder, check, pruned, report)
    if folder.run_id == LEDGER:
        check_ledger(folder, report)
    else:
        check_cross_log(checks, report)
    _note_unsigned_and_unpinned(report, bool(pins))
    return report


@contextlib.contextmanager
def worker_pool(folder: RunFolder, jobs: int | None) -> Iterator[Executor]:
    """Context manager that yields an executor: this process, or several processes."""
    most = max((len(folder.segments(*place)) for place in folder.logs()), default=0)
    wanted = (
        min(len(os.sched_getaffinity(0)), most // MIN_SEGMENTS_PER_WORKER)
        if jobs is None
        else min(jobs, most)
    )
    if wanted < 2:
        yield _InlineExecutor()
        return
    pool = ProcessPoolExecutor(wanted, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class _InlineExecutor(Executor):
    """Executor that runs a task in this process when its result is requested."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        return map(fn, *iterables)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return _LazyResult(functools.partial(fn, *args, **kwargs))


class _LazyResult(NamedTuple):
    result: Callable[[], Any]


def _derived(folder: RunFolder, place: tuple[int, int]) -> VerificationReport:
    report = VerificationReport(folder.run_id)
    check_parquet(folder, *place, report)
    return report


def _trusted_keys(
    folder: RunFolder, keys: Sequence[VerifierKey], report: VerificationReport, *, vouched: bool
) -> list[VerifierKey]:
    """Return the keys that may have signed: the given ones, or else the one that the run names.

    For the ledger, this machine's own key is used. A pin signed by a key authenticates the key as well.
    """
    ledger = folder.run_id == LEDGER
    own = local_verifier_key() if ledger else _own_key(folder)
    if keys:
        if own is not None and own not in keys and not ledger:
            report.add("tampering", "run.json", "names another verifier key than the one given")
        return list(keys)
    if own is None:
        where = "the ledger" if ledger else str(folder.run_json)
        raise UnverifiableError(f"{where} names no verifier key; give one with --key")
    told = f"taken from this machine: {own}" if ledger else f"taken from the run itself: {own}"
    if not vouched:
        report.add("key not pinned", LEDGER if ledger else "run.json", told)
    return [own]


def _own_key(folder: RunFolder) -> VerifierKey | None:
    try:
        return parse_key(str(orjson.loads(read_regular_file(folder.run_json)).get("verifier_key")))
    except (OSError, ValueError, AttributeError, BadInputError):
        return None


def _note_unsigned_and_unpinned(report: VerificationReport, pins_given: bool) -> None:
    for log in report.logs:
        if log.signed < log.events:
            what = f"{log.events - log.signed} events after the newest valid signed tree head"
            report.add("not signed", f"log/{log.attempt}-{log.rank}", what)
        if log.pinned < log.events:
            what = f"pinned up to event {log.pinned} of {log.events}" if pins_given else "no pin was given"
            report.add("not pinned", f"log/{log.attempt}-{log.rank}", what, cause="pins")
