"""Tables of the docs are made from the code, and the plugin that they show runs.

`python -m tests.test_generated_docs` writes the tables anew.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest

from ockham import resources
from ockham.event import to_json_value
from ockham.fields import FIELDS
from ockham.plugins import BUILT_IN, load_built_in
from ockham.policy import load_policy

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs beside an installed package")
MARK = re.compile(r"(<!-- (\w+): made from [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)


def value_told(value):
    return "" if value == "" else f"`{json.dumps(to_json_value(value))}`"


def fields():
    """Every field of the context, in the order of the record."""
    rows = [
        f"| `{f.name}` | {f.role} | {f.kind}{' or null' if f.nullable else ''} | {f.unit} "
        f"| {'required' if f.name in ('iter_num', 'task_loss') else value_told(f.default)} | {f.doc} |"
        for f in FIELDS
    ]
    return ["| field | role | type | unit | default | |", "|---|---|---|---|---|---|", *rows]


def settings():
    """Every setting of every built-in plugin."""
    described = json.loads((resources.schemas_dir() / "policy.v1.schema.json").read_bytes())["$defs"]
    rows = []
    for name in BUILT_IN:
        for key, about in described[f"plugin_{name}"]["properties"].items():
            if key not in ("use", "shadow"):
                choices = [c for part in about.get("anyOf", [about]) for c in part.get("enum", [])]
                accepted = load_built_in(name).limits.get(key) or ", ".join(choices)
                rows.append(
                    f"| `{name}.{key}` | {value_told(about['default'])} | {accepted} | {about['description']} |"
                )
    return ["| setting | default | accepted | |", "|---|---|---|---|", *rows]


def reasons():
    """Every reason code of every built-in plugin."""
    rows = [
        f"| `{name}` | `{code}` | {text} |"
        for name in BUILT_IN
        for code, text in load_built_in(name).reasons.items()
    ]
    return ["| plugin | reason | meaning |", "|---|---|---|", *rows]


def trainer():
    """Every setting of the trainer, with its default at size nano."""
    from ockham.nano import Settings

    told = inspect.getdoc(Settings).partition("Attributes:\n")[2]
    about = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", told, re.MULTILINE))
    rows = [
        f"| `{f.name}` | {value_told(f.default)} | {' '.join(about[f.name].split())} |"
        for f in dataclasses.fields(Settings)
        if f.name != "size"
    ]
    return ["| setting | default | |", "|---|---|---|", *rows]


TABLES = {"context.md": (fields,), "plugins.md": (settings, reasons), "training.md": (trainer,)}


def rewritten(page):
    tables = {table.__name__: table for table in TABLES[page]}
    fill = lambda m: "\n".join([m[1].rstrip(), *tables[m[2]](), m[3]])  # noqa: E731
    return MARK.sub(fill, (DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TABLES)
def test_tables_are_those_of_the_code(page):
    """Whoever changes a field, a setting or a reason writes the page anew: python -m tests.test_generated_docs."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [m[2] for m in MARK.finditer(text)] == [table.__name__ for table in TABLES[page]]
    assert text == rewritten(page)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_reason_in_the_source_is_declared_and_every_declared_one_is_given(name):
    """No code that the table does not know, none that nobody gives."""
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


def test_the_pages_python_runs(tmp_path, monkeypatch):
    """Block after block, as a reader would type them; the plugin of the page then runs under the page's policy."""
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    source = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugins.py").write_text(source, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    quiet = load_policy(tmp_path / "mine.yaml", ["quiet.factor=0.5"]).build()[-1]
    assert (type(quiet).__name__, quiet.factor, quiet.shadow) == ("QuietPlugin", 0.5, True)


if __name__ == "__main__":
    for changed in TABLES:
        text = rewritten(changed)
        (DOCS / changed).write_text(text, encoding="utf-8")
