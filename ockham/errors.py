"""All exceptions that Ockham raises on purpose.

OckhamError                      exit status 2 unless stated otherwise
├── BadInputError                input of a user or a file; names thing, place and what is accepted
│   ├── PolicyError              a preset, a policy file, or a setting in one
│   ├── PluginSettingError       a setting that a plugin does not accept
│   ├── MissingExtraError        a package of an optional extra is not installed
│   ├── DataError                training text or tokens
│   ├── RunError                 a run ID or run folder
│   ├── CheckpointError          weights that do not fit
│   └── QueryError               SQL, a saved question, a parameter
│       ├── QuerySyntaxError     SQL that cannot be parsed
│       ├── QueryLimitError      a query exceeded its time or memory limit
│       └── MissingParameterError  a parameter of the query has no value
├── ContextError                 a plugin set a fact or gauge, or gave a knob a value of the wrong type
├── PluginError                  a plugin raised; names plugin, hook and iteration (exit status 1)
├── VerdictNotAppliedError       the trainer did something else than the chain decided (exit status 1)
├── RunStoppedError              a person has stopped the run, and its loop did not end (exit status 4)
├── RankError                    a run of many ranks cannot continue (exit status 1)
│   ├── RankDivergedError        two ranks reached different verdicts on one batch
│   └── RankLostError            another rank has ended, or has not answered in time
├── LogError                     the log cannot accept another byte (exit status 3)
│   ├── LogLockedError           another process writes this log
│   ├── LogHaltedError           disk full, quota, or a failed sync
│   └── InvalidEventError        an event does not fit its schema: a bug of Ockham, never of the data
└── UnverifiableError            the log is missing or unreadable (exit status 3)

OckhamWarning is the category of all warnings. The command line prints them as one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Name of the distribution. `ockham` on PyPI is another project.
DISTRIBUTION = "ockham-audit"


class OckhamError(Exception):
    """Base class of all exceptions. `exit_status` is the exit status of the command line."""

    exit_status = 2


class OckhamWarning(UserWarning):
    """Something that a user should know while training continues."""


class BadInputError(OckhamError):
    """Input that cannot be used. The message names the thing, the place and what is accepted."""


class PolicyError(BadInputError):
    """A preset, policy file or setting that cannot be used."""


class PluginSettingError(BadInputError):
    """A setting that a plugin does not accept. `plugin` is the name with which the message begins."""

    def __init__(self, plugin: str, problem: str) -> None:
        self.plugin = plugin
        super().__init__(f"{plugin}: {problem}")


class MissingExtraError(BadInputError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed; run {install_command(extra)}")


class DataError(BadInputError):
    """Training data that cannot be used."""


class RunError(BadInputError):
    """A run ID or run folder that cannot be used."""


class CheckpointError(BadInputError):
    """A checkpoint whose weights or state do not fit what they are loaded into."""


class QueryError(BadInputError):
    """SQL, a saved question or a parameter that cannot be answered."""


class QuerySyntaxError(QueryError):
    """SQL that cannot be parsed. `detail` is the parser's message."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"this SQL is not understood, so it is not run: {detail:.300}")


class QueryLimitError(QueryError):
    """A query exceeded its time or memory limit."""


class MissingParameterError(QueryError):
    """A parameter of the query has no value."""


class ContextError(OckhamError, AttributeError):
    """A plugin set a fact or gauge, or gave a knob a value of the wrong type."""


class PluginError(OckhamError):
    """An exception raised by a plugin.

    `plugin`, `hook` and `iter_num` identify the call. `place` is the file and line of the plugin's code,
    empty if none of its lines had run. `__cause__` is the original exception.
    """

    exit_status = 1

    def __init__(self, plugin: str, hook: str, iter_num: int, cause: BaseException) -> None:
        self.plugin = plugin
        self.hook = hook
        self.iter_num = iter_num
        self.place = _place(cause)
        message = (
            f"plugin {plugin!r} failed in {hook} at iteration {iter_num}: {type(cause).__name__}: {cause}"
        )
        super().__init__(f"{message} ({self.place})" if self.place else message)


class VerdictNotAppliedError(OckhamError):
    """The trainer did something else than the chain decided, and the policy stops the run."""

    exit_status = 1


class RunStoppedError(OckhamError):
    """A person has stopped the run, and its loop starts another step."""

    exit_status = 4


class RankError(OckhamError):
    """A run of many ranks cannot continue. Each remaining rank ends its log."""

    exit_status = 1


class RankDivergedError(RankError):
    """Two ranks reached different verdicts on one batch.

    Acting on them would block one rank or split the weights.
    """


class RankLostError(RankError):
    """Another rank has ended, was killed, or has not answered in time."""


class LogError(OckhamError):
    """The log cannot accept another event."""

    exit_status = 3


class LogLockedError(LogError):
    """Another process holds the log's lock."""


class LogHaltedError(LogError):
    """The disk is full, a quota is reached, or a sync failed. The log contains no later event."""


class InvalidEventError(LogError):
    """An event does not fit its schema. Nothing of it was written."""


class UnverifiableError(OckhamError):
    """The input of a check is missing or unreadable."""

    exit_status = 3


def install_command(extra: str) -> str:
    """Return the command that installs an optional extra, such as `train`."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def _place(cause: BaseException) -> str:
    """Return file and line of the innermost frame that belongs to the file that the chain called."""
    # The first frame is that of the chain itself.
    first_frame = cause.__traceback__ and cause.__traceback__.tb_next
    place, frame = "", first_frame
    while first_frame and frame:
        if frame.tb_frame.f_code.co_filename == first_frame.tb_frame.f_code.co_filename:
            place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'gate'?"` for the nearest known name, otherwise the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names) or 'none'}"
