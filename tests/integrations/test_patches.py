"""Replaced attributes are restored, however often they were replaced."""

from __future__ import annotations

from ockham.integrations.patches import Patches


class Owner:
    """Object with a method of its class and an attribute."""

    def __init__(self) -> None:
        self.value = 1

    def method(self):
        return "class"


def test_restored_object_is_as_before():
    """Afterwards the object has no attribute for a method of its class. Restoring again has no effect."""
    owner, patches = Owner(), Patches()
    patches.replace(owner, "method", lambda: "first")
    patches.replace(owner, "method", lambda: "second")
    patches.replace(owner, "value", 2)
    assert (owner.method(), owner.value) == ("second", 2)
    patches.restore()
    owner.value = 3
    patches.restore()
    assert owner.method() == "class"
    assert vars(owner) == {"value": 3}
