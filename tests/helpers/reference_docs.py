"""Generated parts of docs/reference: each table is written from the code that it describes.

`python -m tests.helpers.reference_docs` writes the parts between `<!-- generated: NAME -->` and
`<!-- end -->`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ockham import resources
from ockham.event import TYPES, to_json_value
from ockham.fields import FIELDS, KNOBS
from ockham.plugin import HOOK_KNOBS, HOOKS
from ockham.plugins import BUILT_IN, load_built_in
from ockham.policy import load_policy
from tests.helpers import command_reference
from tests.helpers.command_reference import escape_cell
from tests.helpers.event_fields import MEANINGS

REFERENCE = resources.data_root() / "docs" / "reference"
PRESETS = ("balanced", "tight", "exploratory", "observe", "adapt")
# `ockham adapt` measures these settings, so the preset has no values for them.
MEASURED = {"adapt": ("gate.familiar_mean", "gate.familiar_sd")}
_MARK = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_COMMON = "urn:ockham:common.v1#/$defs/"


def read_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema of `schemas/` by the name of its event type."""
    return dict(json.loads((resources.schemas_dir() / f"{name}.v1.schema.json").read_bytes()))


def format_value(value: Any) -> str:
    """Return a value as JSON in backticks."""
    return "" if value == "" else f"`{json.dumps(to_json_value(value))}`"


def context_fields() -> list[str]:
    """Return a table of the fields of `OccamContext` in the order of the record."""
    rows = ["| field | role | type | unit | default | meaning |", "|---|---|---|---|---|---|"]
    for field in FIELDS:
        kind = f"{field.kind} or null" if field.nullable else field.kind
        is_required = field.name in ("iter_num", "task_loss")
        default = "required" if is_required else format_value(field.default)
        doc = escape_cell(field.doc.removesuffix("; required.") + "." * is_required)
        rows.append(f"| `{field.name}` | {field.role} | {kind} | {field.unit} | {default} | {doc} |")
    return rows


HOOK_TIMES = {
    "on_batch_start": "after the forward pass, before the backward pass",
    "on_gradients": "once per step, after the last backward pass, before clipping",
    "on_batch_end": "after the gauges of the batch are set",
    "on_evaluate": "after `val_loss` is set",
    "on_consolidate": "after the anchor has moved",
}


def hooks() -> list[str]:
    """Return a table of the hooks, and of the knobs that each one can change."""
    names = [f"`{hook}`" for hook in HOOKS]
    rows = [
        f"| knob | {' | '.join(names)} |",
        "|---|" + "---|" * len(HOOKS),
        f"| called | {' | '.join(HOOK_TIMES[hook] for hook in HOOKS)} |",
    ]
    for knob in KNOBS:
        cells = ["yes" if knob in HOOK_KNOBS[hook] else "" for hook in HOOKS]
        rows.append(f"| `{knob}` | {' | '.join(cells)} |")
    return rows


def load_content(preset: str) -> dict[str, Any]:
    """Return a resolved preset as plain values."""
    return load_policy(preset, [f"{name}=1" for name in MEASURED.get(preset, ())]).content


@functools.cache
def preset_settings(preset: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the resolved settings of each plugin of a preset, and `shadow`."""
    plugins = load_content(preset)["plugins"]
    return {entry["name"]: {**entry["settings"], "shadow": entry["shadow"]} for entry in plugins}


def plugin(name: str) -> list[str]:
    """Return the tables of one built-in plugin: settings with one column per preset, and reason codes."""
    properties = read_schema("policy")["$defs"][f"plugin_{name}"]["properties"]
    rows = [
        f"| setting | meaning | accepted | class default | {' | '.join(PRESETS)} |",
        "|---|---|---|---|" + "---|" * len(PRESETS),
    ]
    for key, about in properties.items():
        if key in ("use", "shadow"):
            continue
        choices = [choice for part in about.get("anyOf", [about]) for choice in part.get("enum", [])]
        accepted = load_built_in(name).limits.get(key) or ", ".join(choices)
        values = [_preset_value(preset, name, key) for preset in PRESETS]
        meaning = escape_cell(about["description"])
        default = format_value(about["default"])
        rows.append(f"| `{key}` | {meaning} | {accepted} | {default} | {' | '.join(values)} |")
    reasons = [f"| `{code}` | {escape_cell(text)} |" for code, text in load_built_in(name).reasons.items()]
    return [*rows, "", "| reason code | meaning |", "|---|---|", *reasons]


def _preset_value(preset: str, name: str, key: str) -> str:
    settings = preset_settings(preset).get(name)
    if f"{name}.{key}" in MEASURED.get(preset, ()):
        return "measured"
    return "-" if settings is None else format_value(settings[key])


def presets() -> list[str]:
    """Return a table of the presets: plugins, bands and hyperparameters."""
    contents = [load_content(preset) for preset in PRESETS]
    rows = [f"| | {' | '.join(PRESETS)} |", "|---|" + "---|" * len(PRESETS)]
    for name in BUILT_IN:
        cells = [_plugin_use(preset, name) for preset in PRESETS]
        rows.append(f"| plugin `{name}` | {' | '.join(cells)} |")
    for band in ("update_rate", "accept_rate"):
        cells = [format_value(content["targets"].get(band)) for content in contents]
        rows.append(f"| target `{band}` | {' | '.join(cells)} |")
    for key in contents[0]["hyperparameters"]:
        cells = [format_value(content["hyperparameters"][key]) for content in contents]
        rows.append(f"| hyperparameter `{key}` | {' | '.join(cells)} |")
    return rows


def _plugin_use(preset: str, name: str) -> str:
    settings = preset_settings(preset).get(name)
    if settings is None:
        return "no"
    return "shadow" if settings["shadow"] else "yes"


def preset_files() -> list[str]:
    """Return the YAML files of the presets."""
    lines: list[str] = []
    for preset in PRESETS:
        text = (resources.presets_dir() / f"{preset}.yaml").read_text(encoding="utf-8").strip()
        lines += [f"#### {preset}", "", "```yaml", *text.splitlines(), "```", ""]
    return lines[:-1]


def policy_keys() -> list[str]:
    """Return a table of the keys of a policy file."""
    properties = read_schema("policy")["properties"]
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, about in properties.items():
        rows.append(f"| `{key}` | {describe_type(about)} | {escape_cell(about.get('description', ''))} |")
        if key in ("targets", "hyperparameters"):
            for name, inner in about["properties"].items():
                default = f" Default: {format_value(inner['default'])}." if "default" in inner else ""
                meaning = escape_cell(inner.get("description", "")) + default
                rows.append(f"| `{key}.{name}` | {describe_type(inner)} | {meaning} |")
    return rows


def trainer_settings() -> list[str]:
    """Return a table of the settings of the trainer with their defaults at size nano."""
    from ockham.nano import Settings

    attributes = (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE))
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(Settings):
        if field.name != "size":
            meaning = escape_cell(meanings[field.name])
            rows.append(f"| `{field.name}` | {format_value(field.default)} | {meaning} |")
    return rows


def describe_type(schema: Mapping[str, Any]) -> str:
    """Return a short text for the type that a JSON Schema accepts."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {"count": "integer >= 0", "band": "[low, high] or null"}.get(name, name)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(describe_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {describe_type(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        names = list(schema["properties"])
        listed = ", ".join(f"`{name}`" for name in names[:12]) + (", ..." if len(names) > 12 else "")
        return f"object ({listed})"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {describe_type(schema['additionalProperties'])}"
    kind = schema.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{kind} >= {schema['minimum']}" if "minimum" in schema else kind


def shared_types() -> list[str]:
    """Return a table of the types that all event schemas share."""
    rows = ["| type | definition |", "|---|---|"]
    for name, schema in read_schema("common")["$defs"].items():
        pattern = f"`{escape_cell(schema['pattern'])}`" if "pattern" in schema else ""
        about = escape_cell(schema.get("description", "")) or pattern or describe_type(schema)
        rows.append(f"| `{name}` | {about} |")
    return rows


def events() -> list[str]:
    """Return a section for each event type with the fields of its `data`."""
    lines: list[str] = []
    for kind in TYPES:
        schema = read_schema(kind)
        data = schema["properties"]["data"]
        lines += [f"### {kind}", "", schema["description"], "", "| field | type | meaning |", "|---|---|---|"]
        for name, about in data["properties"].items():
            if name in ("sequence", "attempt", "rank", "ext"):
                continue
            optional = "" if name in data["required"] else " (optional)"
            meaning = about.get("description") or MEANINGS.get(f"{kind}.{name}") or MEANINGS[name]
            lines.append(f"| `{name}`{optional} | {describe_type(about)} | {escape_cell(meaning)} |")
        lines.append("")
    return lines[:-1]


@functools.cache
def view_columns() -> tuple[Mapping[str, Any], ...]:
    """Return the rows of the view `data_dictionary`."""
    from ockham.catalog import Catalog

    with tempfile.TemporaryDirectory() as folder:
        return tuple(Catalog(folder).rows("select * from data_dictionary"))


def views() -> list[str]:
    """Return a section for each view with its columns."""
    lines: list[str] = []
    for name in sorted({row["view"] for row in view_columns()}):
        rows = [row for row in view_columns() if row["view"] == name]
        lines += [
            f"### {name}",
            "",
            rows[0]["view_comment"],
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        for row in rows:
            kind = f"`{escape_cell(row['type'])}`"
            lines.append(f"| `{row['column']}` | {kind} | {escape_cell(row['comment'] or '')} |")
        lines.append("")
    return lines[:-1]


def saved_questions() -> list[str]:
    """Return a table of the saved questions."""
    from ockham.catalog.views import load_question, question_names

    rows = ["| name | question | parameters |", "|---|---|---|"]
    for name in question_names():
        found = load_question(name)
        parameters = ", ".join(f"`{key}`: {about}" for key, about in found.parameters.items())
        rows.append(f"| `{name}` | {escape_cell(found.question)} | {escape_cell(parameters)} |")
    return rows


def odr_codes() -> list[str]:
    """Return a table of the finding codes of decision records."""
    from ockham.odr.codes import CODES

    rows = ["| code | severity | fixable | title | explanation |", "|---|---|---|---|---|"]
    for code in CODES.values():
        fixable = "yes" if code.fixable else ""
        title, about = escape_cell(code.title), escape_cell(code.help)
        rows.append(f"| `{code.code}` | {code.weight} | {fixable} | {title} | {about} |")
    return rows


PARTS: Mapping[str, Mapping[str, Callable[[], list[str]]]] = {
    "commands.md": {
        "overview": command_reference.overview,
        "exit statuses": command_reference.exit_statuses,
        "commands": command_reference.commands,
    },
    "plugins.md": {
        "presets": presets,
        **{f"plugin {name}": functools.partial(plugin, name) for name in BUILT_IN},
        "hooks": hooks,
        "context fields": context_fields,
        "policy keys": policy_keys,
        "preset files": preset_files,
        "trainer settings": trainer_settings,
    },
    "data.md": {
        "shared types": shared_types,
        "events": events,
        "views": views,
        "saved questions": saved_questions,
        "odr codes": odr_codes,
    },
}


def generated_parts(page: str) -> list[str]:
    """Return the names of the generated parts that a page contains."""
    return [match[2] for match in _MARK.finditer((REFERENCE / page).read_text(encoding="utf-8"))]


def regenerate(page: str) -> str:
    """Return the text of a page with all generated parts written from the present code."""

    def fill(match: re.Match[str]) -> str:
        return "\n".join([match[1].rstrip(), "", *PARTS[page][match[2]](), "", match[3]])

    return _MARK.sub(fill, (REFERENCE / page).read_text(encoding="utf-8"))


if __name__ == "__main__":
    for changed in PARTS:
        text = regenerate(changed)
        (REFERENCE / changed).write_text(text, encoding="utf-8")
