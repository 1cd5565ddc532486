"""Words of the pages: every code has a plain name, and the glossary is that of the documentation."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import words
from dashboard.tables import add_plain_names, column_formats
from ockham import resources
from ockham.catalog.run_tables import reason_codes_table

GLOSSARY_ROW = re.compile(r"^\| (?P<term>[^|]+?) \| (?P<meaning>.+) \|$", re.MULTILINE)
CODE = re.compile(r"[A-Z]+(_[A-Z]+)+")


def test_each_reason_code_of_a_plugin_has_one_plain_name():
    """No name is missing, none is left over, and two codes do not have the same name."""
    codes = reason_codes_table()["reason_code"].to_pylist()
    assert set(words.REASON_NAMES) == set(codes)
    assert len(set(words.REASON_NAMES.values())) == len(words.REASON_NAMES)


@pytest.mark.parametrize(
    "names",
    [words.REASON_NAMES, words.OUTCOME_NAMES, words.ACTION_NAMES, words.HOOK_NAMES, words.STATE_NAMES],
)
def test_plain_names_contain_no_code(names):
    """A plain name has words only, with at most 60 characters."""
    for code, name in names.items():
        assert not CODE.search(name), code
        assert "_" not in name, code
        assert len(name) <= 60, code


def test_code_of_a_third_party_plugin_is_shown_in_lower_case():
    """A code without a name stays recognisable, and the label contains the code itself."""
    assert words.reason_name("MY_OWN_CODE") == "my own code"
    assert words.reason_label("BELOW_THRESHOLD") == "loss below the threshold (BELOW_THRESHOLD)"


def test_glossary_equals_that_of_the_documentation():
    """A term has one definition."""
    text = (resources.data_root() / "docs" / "glossary.md").read_text(encoding="utf-8")
    documented = {row["term"]: row["meaning"] for row in GLOSSARY_ROW.finditer(text)}
    assert {term: documented.get(term) for term in words.GLOSSARY} == words.GLOSSARY


def test_table_shows_plain_name_next_to_reason_code():
    """The name is in the column before the code. A row without a code has no name."""
    hooks = ["on_batch_start", "on_evaluate"]
    table = pa.table({"hook": hooks, "reason_code": ["SURPRISING", None]})
    shown = add_plain_names(table)
    assert shown.column_names == ["hook", "reason", "reason_code"]
    assert shown["hook"].to_pylist() == ["before the update", "evaluation"]
    assert shown["reason"].to_pylist() == ["loss above the threshold", None]


def test_column_headings_are_words():
    """No heading is a column name with underscores, whatever the type of the column is."""
    table = pa.table({"iter_num": [1], "val_loss": [2.0], "own_column": ["x"], "update_rate": [0.5]})
    headings = {name: column["label"] for name, column in column_formats(table).items()}
    assert headings == {
        "iter_num": "iteration",
        "val_loss": "loss",
        "own_column": "own column",
        "update_rate": "update rate",
    }


def test_glossary_line_contains_definition_of_each_term():
    """A term can be reached by keyboard, and contains its definition."""

    def page():
        from dashboard.words import glossary_line

        glossary_line("drift", "anchor weights")

    test = AppTest.from_function(page).run()
    assert not test.exception
    markup = test.get("html")[0].proto.body
    assert 'tabindex="0" data-meaning="reference weights from which drift is measured"' in markup
    assert ">drift</span>" in markup


def test_table_of_user_sql_keeps_its_columns():
    """User SQL names the columns of its result itself."""
    columns = column_formats(pa.table({"iter_num": [1]}), headings=False)
    assert columns["iter_num"]["label"] is None
