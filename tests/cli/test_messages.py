"""Error messages of wrong calls: each names the thing, the problem and what is accepted, in one line."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers import forked_cli
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages")
    make_run(folder / "runs", "demo", batches=20)
    save_file({"weight": np.zeros(2)}, folder / "hf.safetensors")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("text\n" * 200)
    return folder


CASES = [
    ("verify demo --key nosuch.pub", "--key 'nosuch.pub': not a verifier key; pass the line that"),
    ("verify demo --key-file nosuch.pub", "key file 'nosuch.pub': cannot be read: No such file or directory"),
    ("verify demo --key ''", "--key '': not a verifier key; pass the line that `ockham keygen` prints"),
    ("verify demo --pin nosuch.pin", "pin nosuch.pin: cannot be read: No such file or directory"),
    ("verify demo --pin /dev/null", "/dev/null: pin: empty, without a tree head; `ockham pin RUN`"),
    ("verify demo --pin -", "-: pin: empty, without a tree head; `ockham pin RUN` prints a pin"),
    ("prove demo --since /dev/null", "/dev/null: pin: empty, without a tree head"),
    ("prove --check x.proof --pin nosuch.pin", "x.proof: cannot be read"),
    ("--runs nosuch verify demo", "demo: run not found; the folder nosuch does not exist"),
    ("--runs s3://b/runs verify x", "--runs s3://b/runs: not a local folder; copy the runs"),
    ("verify nosuch", "nosuch: run not found in runs; existing runs: demo"),
    ("lineage nosuch.safetensors", "nosuch.safetensors: file not found; pass a safetensors file"),
    ("lineage hf.safetensors", "hf.safetensors"),
    ("why demo abc", "ITERATION: 'abc' is not a whole number"),
    ("why demo 5000", "run 'demo' has no iteration 5000; it has 0 to 19"),
    ("roi demo --floor x", "--floor: 'x' is not a number"),
    ("verify demo --jobs 0", "--jobs: 0 is out of range; accepted: 1 or more"),
    ("forward demo --to http://x --batch 0", "--batch: 0 is out of range; accepted: 1 to 10000"),
    ("runs -f yaml", "--format: 'yaml' is not accepted; accepted: table, json, jsonl, csv, tsv, md, parquet"),
    ("verify --fast demo", "--fast: unknown option of `ockham verify`; options: --format"),
    ("verify demo --quik", "--quik: unknown option of `ockham verify`; did you mean --quick?"),
    ("query 'selct 1'", "SQL: starts with 'selct'; accepted: SELECT, FROM, VALUES, WITH"),
    ("query '--runs x'", "--runs x: unknown option of `ockham query`"),
    ("query '-- one\nselct 1'", "SQL: starts with 'selct'; accepted: SELECT, FROM, VALUES, WITH"),
    ("query 'describe decison'", "DESCRIBE 'decison': view does not exist; did you mean 'decisions'"),
    ("query 'select a b c from decisions'", "SQL: not understood near 'c' (line 1, column 12)"),
    ("query 'select 1' -p run=x", "-p run: the SQL has no parameter $run"),
    ("ask lineage -p snapshto=x", "question 'lineage' has no parameter 'snapshto'; accepted: snapshot"),
    ("query 'select nope from decisions'", "nope"),
    ("replay demo --iter 5000", "run 'demo' has no iteration 5000; it has 0 to 19"),
    ("train --device gpu", "device"),
    ("odr explain foo", "'foo': not a code; `ockham odr explain ODR5` lists a group: ODR0"),
    ("compare demo", "RUN_B: missing argument; usage: ockham compare [OPTIONS] RUN_A RUN_B"),
    ("query --limit", "--limit: missing value; `ockham query --help` describes it"),
    ("query --file x.sql", "--file x.sql: cannot be read: No such file or directory"),
    ("odr upgrade x.md", "x.md: cannot be read: No such file or directory"),
    ("quux", "unknown command 'quux'; known: "),
    ("verfy demo", "unknown command 'verfy'; did you mean 'verify'?"),
    ("compare demo demo demo", "ockham: compare: got unexpected extra argument"),
    ("adapt", "adapt requires --from RUN and --data PATH, or --resume with --run ID"),
    ("train --resume", "--resume and --resume-from require --run ID"),
    ("export -o x.zip", "-o x.zip: an archive requires --evidence"),
    ("prove", "prove: ID missing; pass the ID of an event"),
]


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line for line, _ in CASES])
def test_wrong_call_prints_one_line_with_the_fix(folder, line, message):
    """Exit status 2, one line on stderr, no text of the libraries."""
    import shlex

    done = forked_cli.run("ockham", *shlex.split(line), cwd=folder)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.count("ockham: ") == 1
    for text in ("Errno", "Value error", "Input should be", "Binder Error", "Traceback"):
        assert text not in done.stderr
