"""Facts collected from one log that are checked against other logs and files."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LogSummary:
    """Facts from one part of a log that are checked against other parts and files.

    `acceptances_and_checkpoints` contains in order: (decision ID, iteration) of each decision that accepted,
    and the data of each checkpoint.
    """

    acceptances_and_checkpoints: list[tuple[str, int] | Mapping[str, Any]] = field(default_factory=list)
    # Revision -> the first event that names it.
    policies: dict[str, int] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)
    # Sequence, snapshot ID and weights digest of each rollback to a saved state.
    restored: list[tuple[int, str, str]] = field(default_factory=list)
    # Names of the blobs and of the files with removed bytes.
    blobs: set[str] = field(default_factory=set)
    cut_files: set[str] = field(default_factory=set)
    resumed: Mapping[str, Any] | None = None
    world_size: int = 1
    finished: bool = False
    # Size and root of each rank's log in `run.finished`.
    rank_logs: Sequence[Mapping[str, Any]] = ()
    # Kinds of the unsigned lines after a signed end.
    kinds_after_end: set[str] = field(default_factory=set)
    # It may end inside a batch.
    ended_mid_batch: bool = False
    # Decisions at the end that no context has taken yet.
    pending: int = 0
    pending_batches: int = 0
    # Of each context, to be held against other ranks'.
    knob_hashes: array[int] = field(default_factory=lambda: array("Q"))
    iterations: array[int] = field(default_factory=lambda: array("Q"))
    # Key of each recorded request -> the first event that names it, and the number of these events.
    request_keys: dict[str, int] = field(default_factory=dict)
    request_counts: Counter[str] = field(default_factory=Counter)
    # Keys that the first event names.
    trusted_request_keys: set[str] = field(default_factory=set)

    def extend(self, later: LogSummary) -> None:
        """Add the facts of the following part."""
        self.acceptances_and_checkpoints += later.acceptances_and_checkpoints
        self.policies = later.policies | self.policies
        self.pruned |= later.pruned
        self.restored += later.restored
        self.blobs |= later.blobs
        self.cut_files |= later.cut_files
        self.kinds_after_end |= later.kinds_after_end
        self.resumed = later.resumed or self.resumed
        self.world_size = max(self.world_size, later.world_size)
        if later.finished:
            self.finished, self.ended_mid_batch = True, later.ended_mid_batch
            self.rank_logs = later.rank_logs
        self.pending, self.pending_batches = later.pending, later.pending_batches
        self.knob_hashes += later.knob_hashes
        self.iterations += later.iterations
        self.request_keys = later.request_keys | self.request_keys
        self.request_counts += later.request_counts
        self.trusted_request_keys |= later.trusted_request_keys

    def checkpoints(self) -> list[tuple[Mapping[str, Any], bool]]:
        """Return each checkpoint, and whether an earlier decision accepted its weights."""
        accepting: dict[str, int] = {}
        found = []
        for mark in self.acceptances_and_checkpoints:
            if isinstance(mark, tuple):
                accepting[mark[0]] = mark[1]
            else:
                fits = mark["kind"] != "accepted" or accepting.get(mark["decision_id"]) == mark["iter_num"]
                found.append((mark, fits))
        return found
