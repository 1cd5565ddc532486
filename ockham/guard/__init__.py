"""Guard: SQL that a person typed, or that stands in a file, answered without trusting it."""

from ockham.guard.guard import Answer as Answer
from ockham.guard.guard import Guard as Guard
from ockham.guard.rules import check as check
