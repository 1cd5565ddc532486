"""Generated parts of docs/reference equal a regeneration, and cover the code that they describe.

`python -m tests.helpers.reference_docs` writes the pages.
"""

from __future__ import annotations

import ast
import re

import pytest

from ockham import resources
from ockham.event import TYPES
from ockham.plugins import BUILT_IN, load_built_in
from tests.helpers import event_fields, reference_docs
from tests.helpers.command_reference import list_commands
from tests.helpers.reference_docs import PARTS, REFERENCE, generated_parts, read_schema, regenerate

ROOT = resources.data_root()
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="an installed package has no docs")
_VARIABLE = re.compile(
    r"""environ(?:\.get\(|\[)\s*"([A-Z][A-Z_]+)"|"(OCKHAM_[A-Z_]+)"|\$(TIKTOKEN_[A-Z_]+)"""
)


def read_page(page):
    return (REFERENCE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PARTS)
def test_reference_page_equals_regeneration(page):
    """After a change of commands, settings, events or views: python -m tests.helpers.reference_docs."""
    assert read_page(page) == regenerate(page)


@pytest.mark.parametrize("page", PARTS)
def test_reference_page_contains_every_generated_part_once(page):
    """A part that a page lost would not be noticed by a regeneration."""
    assert sorted(generated_parts(page)) == sorted(PARTS[page])


def test_command_reference_has_every_command_of_the_program():
    """Each command has a section, and the walk over the application finds them all."""
    names = [command.name for command in list_commands()]
    assert len(names) > 35
    assert {f"### {name}" for name in names} <= set(read_page("commands.md").splitlines())


def test_command_reference_names_every_environment_variable_of_the_source():
    """A variable that the code reads is documented."""
    read = set()
    for folder in ("ockham", "dashboard"):
        for path in (ROOT / folder).rglob("*.py"):
            for match in _VARIABLE.finditer(path.read_text(encoding="utf-8")):
                read.add(next(name for name in match.groups() if name))
    assert len(read) > 10
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", read_page("commands.md")))
    assert read - documented == set()


def test_event_fields_without_schema_description_have_a_meaning():
    """The reference explains each field, and no meaning is left over."""
    used = set()
    for kind in TYPES:
        for name, about in read_schema(kind)["properties"]["data"]["properties"].items():
            if name not in ("sequence", "attempt", "rank", "ext") and "description" not in about:
                used.add(f"{kind}.{name}" if f"{kind}.{name}" in event_fields.MEANINGS else name)
    assert used == set(event_fields.MEANINGS)


def test_settings_table_has_one_column_per_preset():
    """Class defaults without presets would mislead: presets set other values."""
    heading = reference_docs.plugin("limiter")[0]
    assert heading.endswith("| class default | balanced | tight | exploratory | observe | adapt |")
    ceiling = next(
        row for row in reference_docs.plugin("limiter") if row.startswith("| `complexity_ceiling`")
    )
    assert ceiling.endswith("| `0.2` | `0.4` | `0.25` | `0.5` | `0.4` | - |")


@pytest.mark.parametrize("name", BUILT_IN)
def test_declared_reason_codes_equal_those_in_the_source(name):
    """Each code of the table is used by the plugin, and the plugin uses no other code."""
    path = ROOT / "ockham" / "plugins" / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    table = next(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "reasons"
    )
    keys = {id(key) for key in table.keys}
    words = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in keys
    ]
    declared = set(load_built_in(name).reasons)
    codes = {word for word in words if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", word)}
    assert codes - declared == set()
    assert declared - set(words) == set()
