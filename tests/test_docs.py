"""Documentation pages: commands, snippets and outputs are correct, and links lead to a heading."""

from __future__ import annotations

import hashlib
import pkgutil
import re
from pathlib import Path

import pytest
import typer.main

import ockham
from ockham import resources
from ockham.cli import build_app
from ockham.record.run_folder import RunFolder
from tests.helpers.cli_parser import parse
from tests.helpers.doc_pages import Block, PageError, PageRunner, matches, read_blocks
from tests.helpers.events import events
from tests.helpers.page_inputs import write_corpus, write_texts
from tests.helpers.train_command import select_data

ROOT = resources.data_root()
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "odr").glob("*.md"))]
RUN_PAGES = [
    ROOT / "README.md",
    *(
        DOCS / f"{name}.md"
        for name in (
            "tutorial",
            "train",
            "integrate",
            "write-a-plugin",
            "analyse",
            "audit",
            "decide",
            "constraints",
            "operate",
        )
    ),
]
# Attributes of OpenTelemetry records, a file, and an entry point group.
NAMES_OUTSIDE_OF_PYTHON = {
    "ockham.run_id",
    "ockham.action",
    "ockham.reason_code",
    "ockham.key.pub",
    "ockham.plugins",
}
_FENCE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1", re.DOTALL | re.MULTILINE)


def name_page(path):
    """Return the path of a page relative to the repository, as its test ID."""
    return str(path.relative_to(ROOT))


def list_blocks(page):
    """Return the code blocks of a page."""
    return [block for block in read_blocks(page.read_text(encoding="utf-8")) if isinstance(block, Block)]


@pytest.fixture(scope="module")
def command_tree():
    return typer.main.get_command(build_app())


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_commands_of_page_have_existing_options(page, command_tree):
    """Commands that are not executed are parsed too."""
    for block in list_blocks(page):
        if block.kind in ("bash", "console", "sh", ""):
            for line in "\n".join(block.body).replace("\\\n", " ").splitlines():
                if line.removeprefix("$ ").startswith("ockham "):
                    parse(command_tree, line.removeprefix("$ "))


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_python_of_page_uses_public_names(page):
    """Each snippet compiles, and `ockham.NAME` is a public name or module."""
    for block in list_blocks(page):
        if block.kind == "python":
            body = "\n".join(block.body)
            compile(body, page.name, "exec")
            for name in re.findall(r"\bockham\.([A-Za-z_]\w*)\(", body):
                assert name in ockham.__all__, f"{page.name}: ockham.{name}"


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_names_in_text_of_page_exist(page):
    """`ockham.NAME` in running text is a module, class or function."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`(ockham(?:\.[A-Za-z_]\w*)+)", text):
        assert name in NAMES_OUTSIDE_OF_PYTHON or pkgutil.resolve_name(name), f"{page.name}: {name}"


@pytest.mark.parametrize("page", RUN_PAGES, ids=name_page)
def test_page_runs_as_it_is_written(page, tmp_path):
    """Every block runs in order in an empty folder.

    `python -m tests.helpers.doc_pages PAGE` updates the outputs.
    """
    folder = tmp_path / "page"
    folder.mkdir()
    PageRunner(folder).run(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", RUN_PAGES, ids=name_page)
def test_skipped_block_has_a_reason(page):
    """A block that does not run states why, or where else it is tested."""
    for block in list_blocks(page):
        if block.is_skipped:
            assert any(re.fullmatch(r"skip: .{10,}", option) for option in block.options), block


def test_example_on_page_is_the_file_in_examples():
    """The pages show the programs of `examples/` as they are."""
    shown = {}
    for page in RUN_PAGES:
        for block in list_blocks(page):
            if block.file and (path := ROOT / "examples" / block.file).exists():
                assert "\n".join(block.body) + "\n" == path.read_text(encoding="utf-8"), (
                    f"{page.name}: {path.name}"
                )
                shown[path.name] = page.name
    assert set(shown) == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_readme_has_at_most_130_lines():
    """The first page stays short."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def list_anchors(page):
    """Return the anchors of the headings of a page, as GitHub and MkDocs build them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+ (.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        yield re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKED, ids=name_page)
def test_links_of_page_lead_to_a_file_and_heading(page):
    """Links of `docs/` stay in this folder, so that a site generator can use it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in list_anchors(path), f"{page.name}: {target}"
        if page.is_relative_to(DOCS):
            assert path.resolve().is_relative_to(DOCS), f"{page.name}: {target} is outside of docs/"


def test_index_lists_every_page():
    """A new page needs a line in docs/index.md."""
    listed = set(re.findall(r"\]\(([a-z/-]+\.md)\)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"}


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (["1 event", "at 2026-01-02 03:04:05"], "1  event\nat 2027-05-06 07:08:09\n"),
        (["first", "...", "last"], "first\nsecond\nthird\nlast\n"),
        (["id 01a22075-1d0c-742d-966b-faf40000019a"], "id 01b22075-2d0c-742d-966b-faf40000019b\n"),
    ],
)
def test_output_with_other_times_and_ids_matches(expected, actual):
    """Times, IDs and column widths differ between two runs."""
    assert matches(expected, actual)


def test_output_with_another_number_does_not_match():
    """Numbers are compared, unless a directive excludes them."""
    assert not matches(["2 events"], "3 events\n")
    assert matches(["2 events"], "3 events\n", numbers_vary=True)


def test_training_on_a_page_reads_the_same_text_on_every_machine(tmp_path):
    """The default text is that of the Python version, so losses and decisions would depend on it."""
    folder = tmp_path / "page"
    folder.mkdir()
    texts = folder / "texts"
    write_texts(texts)
    page = "```console\n$ ockham train --run a\n$ ockham train --run b --data texts # comment\n```\n"
    PageRunner(folder).run(page)
    for run, name in (("a", "corpus"), ("b", "texts")):
        [start] = select_data("run.started", events(RunFolder(folder / "runs", run)))
        assert Path(start["settings"]["data"]).name == name


def test_text_of_the_pages_has_fixed_bytes(tmp_path):
    """They do not depend on the machine or on the version of Python."""
    write_corpus(tmp_path / "corpus")
    digest = hashlib.sha256()
    for path in sorted((tmp_path / "corpus").iterdir()):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == "ccf0b2902a8485d0dee64c8bf4ecc3a93f5fed7597a91569dd0ccb5dd8f1cc7d"


@pytest.mark.parametrize("command", ["ockham verify nothing", "echo other"])
def test_page_with_a_wrong_command_or_output_is_refused(command, tmp_path):
    """A failing command and a different output are errors."""
    folder = tmp_path / "page"
    folder.mkdir()
    with pytest.raises(PageError, match=command.split()[-1]):
        PageRunner(folder).run(f"```console\n$ {command}\nexpected\n```\n")
