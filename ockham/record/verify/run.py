"""Verify a run offline. Reads only, and trusts only the bytes on disk and the given keys."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, NamedTuple

import orjson

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.evidence import LogKey, read_evidence, select_kinds
from ockham.record.run_folder import LEDGER, PARQUET_TABLES, SIDECARS, RunFolder, read_regular_file
from ockham.record.tlog.note import VerifierKey, local_verifier_key, parse_key
from ockham.record.verify.files import check_checkpoints, check_log_references
from ockham.record.verify.foreign import check_foreign_files
from ockham.record.verify.ledger import check_ledger
from ockham.record.verify.log import LogVerifier
from ockham.record.verify.parquet import check_parquet
from ockham.record.verify.people import check_request_keys
from ockham.record.verify.pins import pinned_heads
from ockham.record.verify.ranks import check_cross_log
from ockham.record.verify.report import VerificationReport

# Segments of 20,000 events: below, starting a process costs more than it saves.
MIN_SEGMENTS_PER_WORKER = 3
_PARQUET_TRIES = 5
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
    places = folder.logs()
    if not places:
        raise UnverifiableError(f"{folder.path} has no log")
    folder.require_own_name()
    accepted = _trusted_keys(folder, keys, report, vouched=bool(pins))
    pinned = pinned_heads(folder, pins, accepted, report)
    checks: dict[tuple[int, int], LogVerifier] = {}
    with worker_pool(folder, jobs) as pool:
        for place in places:
            check = checks[place] = LogVerifier(folder, *place, accepted, pinned.get(place, []), report)
            for lines in check.read(pool):
                if progress is not None:
                    progress(lines)
            check_log_references(folder, place, check.summary, report)
            check_request_keys(f"log/{place[0]}-{place[1]}", check.summary, accepted, report)
            report.logs.append(check.finish())
            if parquet:
                report.merge(_derived(folder, place, pool))
    if policies := {revision for check in checks.values() for revision in check.summary.policies}:
        # once, however many logs name one.
        report.count("policies", len(policies))
    _check_checkpoints(folder, checks, accepted, report)
    if folder.run_id == LEDGER:
        check_ledger(folder, report)
    else:
        check_cross_log(checks, report)
        check_foreign_files(folder, checks, report)
    _note_unsigned_and_unpinned(report, bool(pins))
    return report


def _check_checkpoints(
    folder: RunFolder,
    checks: Mapping[LogKey, LogVerifier],
    keys: Sequence[VerifierKey],
    report: VerificationReport,
) -> None:
    """Check the files of all checkpoints. A live run can prune some meanwhile."""
    # A later attempt prunes too.
    pruned = set().union(*(check.summary.pruned for check in checks.values()))
    while True:
        found = _checkpoint_findings(folder, checks, pruned)
        if found.sound or not any(check.has_moved() for check in checks.values()):
            break
        fresh = read_evidence(folder, keys, select=select_kinds("checkpoint.pruned"))
        later = {event["data"]["snapshot_id"] for _, _, event in fresh.events("checkpoint.pruned")}
        if later <= pruned:
            break
        pruned |= later
    report.merge(found)


def _checkpoint_findings(
    folder: RunFolder, checks: Mapping[LogKey, LogVerifier], pruned: Collection[str]
) -> VerificationReport:
    report = VerificationReport(folder.run_id)
    for check in checks.values():
        check_checkpoints(folder, check, pruned, report)
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


def _derived(folder: RunFolder, place: tuple[int, int], workers: Executor) -> VerificationReport:
    """Compare the Parquet files of a log. If they change meanwhile, they are compared again."""
    for _ in range(_PARQUET_TRIES):
        report = VerificationReport(folder.run_id)
        before = _parquet_state(folder, place)
        check_parquet(folder, *place, report, workers)
        if report.sound or before == _parquet_state(folder, place):
            break
    return report


def _parquet_state(folder: RunFolder, place: tuple[int, int]) -> list[tuple[str, int]]:
    """Return name and time of the Parquet files and segments of a log."""
    name = f"{place[0]}-{place[1]}"
    kinds = [part for kind in PARQUET_TABLES for part in (kind, f"{SIDECARS}/{kind}")]
    files = [path for kind in kinds for path in (folder.path / kind).glob(f"day=*/{name}-*")]
    state = []
    for path in [*files, *folder.segments(*place)]:
        with contextlib.suppress(OSError):
            state.append((str(path), path.stat().st_mtime_ns))
    return sorted(state)


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
    message = f"taken from this machine: {own}" if ledger else f"taken from the run itself: {own}"
    if not vouched:
        report.add("key not pinned", LEDGER if ledger else "run.json", message)
    return [own]


def own_keys(folder: RunFolder) -> list[VerifierKey]:
    """Return the key that run.json names and this machine's own key, as far as they exist."""
    return [key for key in (_own_key(folder), local_verifier_key()) if key is not None]


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
