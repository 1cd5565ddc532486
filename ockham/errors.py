"""Every error that Ockham raises on purpose.

OckhamError                      exit status 2 unless a line says otherwise
├── BadInputError                something a person typed or a file holds; names thing, place and what is accepted
│   ├── PolicyError              a preset, a policy file, or a setting in one
│   ├── DataError                training text or tokens
│   ├── RunError                 a run ID or run folder
│   ├── CheckpointError          weights that do not fit
│   └── QueryError               SQL, a saved question, a parameter
├── ContextError                 a fact or gauge was set by a plugin, or a knob got a value of the wrong type
├── PluginError                  a plugin raised; names plugin, hook and iteration
├── RankError                    a run of many ranks cannot go on (exit status 1)
│   ├── RankDivergedError        two ranks reached different verdicts on one batch
│   └── RankLostError            another rank has ended, or has not answered in time
├── LogError                     the log cannot take another byte (exit status 3)
│   ├── LogLockedError           another process writes this log
│   ├── LogHaltedError           disk full, quota, or a sync that failed
│   └── InvalidEventError        an event does not fit its schema: a bug of ours, never of the data
└── UnverifiableError             the log is missing or unreadable (exit status 3)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OckhamError(Exception):
    """Root of the tree; `exit_status` is what the command line ends with."""

    exit_status = 2


class BadInputError(OckhamError):
    """Input that cannot be used. The message names the thing, the place and what would be accepted."""


class PolicyError(BadInputError):
    """A preset, policy file or setting that cannot be used."""


class DataError(BadInputError):
    """Training data that cannot be used."""


class RunError(BadInputError):
    """A run ID or run folder that cannot be used."""


class CheckpointError(BadInputError):
    """A checkpoint whose weights or state do not fit what they are loaded into."""


class QueryError(BadInputError):
    """SQL, a saved question or a parameter that cannot be answered."""


class ContextError(OckhamError, AttributeError):
    """A plugin set a fact or gauge, or gave a knob a value of the wrong type."""


class PluginError(OckhamError):
    """A plugin raised. `plugin`, `hook` and `iter_num` say when, `place` in which file and line of its own code.

    `place` is empty where none of its lines had run. `__cause__` is what it raised.
    """

    exit_status = 1

    def __init__(self, plugin: str, hook: str, iter_num: int, cause: BaseException) -> None:
        self.plugin, self.hook, self.iter_num, self.place = plugin, hook, iter_num, _place(cause)
        told = f"plugin {plugin!r} failed in {hook} at iteration {iter_num}: {type(cause).__name__}: {cause}"
        super().__init__(f"{told} ({self.place})" if self.place else told)


class RankError(OckhamError):
    """A run of many ranks cannot go on; each rank that is left ends its log."""

    exit_status = 1


class RankDivergedError(RankError):
    """Two ranks left one batch otherwise: acting on it would hang one or part their weights."""


class RankLostError(RankError):
    """Another rank has ended, was killed, or has not answered in time."""


class LogError(OckhamError):
    """The log cannot take another event."""

    exit_status = 3


class LogLockedError(LogError):
    """Another process holds the log's lock."""


class LogHaltedError(LogError):
    """The disk is full, a quota is reached, or a sync failed: nothing after this is in the log."""


class InvalidEventError(LogError):
    """An event that does not fit its own schema. Nothing of it was written."""


class UnverifiableError(OckhamError):
    """What was to be judged is missing or unreadable."""

    exit_status = 3


def _place(cause: BaseException) -> str:
    """The innermost line of the file that the chain had called: where to look, whatever library it went through."""
    first_frame = cause.__traceback__ and cause.__traceback__.tb_next  # behind the chain's own frame
    place, frame = "", first_frame
    while first_frame and frame:
        if frame.tb_frame.f_code.co_filename == first_frame.tb_frame.f_code.co_filename:
            place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def suggest_name(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'gate'?"` for the nearest known name, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names) or 'none'}"
