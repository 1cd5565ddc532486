"""Options that several commands share: verifier keys and pins."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from ockham.errors import BadInputError
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from tests.helpers import forked_cli
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the run `demo`, and an `own` key that has not signed it."""
    folder = tmp_path_factory.mktemp("options")
    run = make_run(folder / "runs", "demo", batches=5)
    (folder / "demo.pin").write_bytes(make_pin(run.folder))
    (folder / "key.pub").write_text(f"{load_or_create_signer().verifier}\n")
    return folder


def ockham(folder, *words, **options):
    return forked_cli.ockham(folder / "runs", *words, cwd=folder, **options)


def other_key(folder):
    return str(load_or_create_signer(folder / "other").verifier)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "demo"], "names another verifier key"),
        (["prove", "demo", "--since", "demo.pin"], "not a pin signed by a known key"),
    ],
)
def test_key_text_is_never_the_name_of_a_file(folder, tmp_path, words, message):
    """A file whose name equals the text of a key does not replace the key, whatever the command."""
    trusted = other_key(tmp_path)
    cwd = shutil.copytree(folder, tmp_path / "cwd")
    (cwd / trusted).parent.mkdir(parents=True, exist_ok=True)
    (cwd / trusted).write_text(f"{load_or_create_signer().verifier}\n")
    done = ockham(cwd, *words, "--key", trusted)
    assert done.returncode in (1, 2)
    assert message in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["ockham.key.pub", "./key.pub", "key.pub"])
def test_name_of_a_key_file_is_not_a_key(folder, name):
    """--key refuses it and names --key-file, also if the file exists."""
    done = ockham(folder, "verify", "demo", "--key", name)
    assert done.returncode == 2
    assert "or a file that contains it with --key-file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_key_file_has_the_same_effect_as_its_text(folder):
    """Both options can be combined and repeated."""
    key = str(load_or_create_signer().verifier)
    for words in (["--key-file", "key.pub"], ["--key", key], ["--key", key, "--key-file", "key.pub"]):
        done = ockham(folder, "verify", "demo", *words, "-v")
        assert (done.returncode, "key not pinned" in done.stdout) == (0, False)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe", b"a+b+c", b"ab" * 32 + b"\n", b"x" * 5_000], ids=str
)
def test_other_content_of_a_key_file_is_an_error(folder, tmp_path, content):
    """The message does not contain the content, which may be a private key."""
    file = tmp_path / "wrong.key"
    file.write_bytes(content)
    done = ockham(folder, "verify", "demo", "--key-file", str(file))
    assert done.returncode == 2
    assert "not a verifier key; accepted: one line name+keyid+base64" in done.stderr
    assert "abab" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_keys_in_one_file_are_an_error(folder, tmp_path):
    """A file contains one key; --key-file may be repeated."""
    file = tmp_path / "two.pub"
    file.write_text(f"{load_or_create_signer().verifier}\n{other_key(tmp_path)}\n")
    assert ockham(folder, "verify", "demo", "--key-file", str(file)).returncode == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n\n", b" \n\t\n"], ids=repr)
@pytest.mark.parametrize(
    "words",
    [["verify", "demo", "--pin"], ["prove", "demo", "--since"], ["prove", "--check", "demo.pin", "--pin"]],
    ids=" ".join,
)
def test_pin_without_a_tree_head_is_an_error(folder, tmp_path, content, words):
    """The same holds for a file, for stdin and for a pipe."""
    file = tmp_path / "empty.pin"
    file.write_bytes(content)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    results = [
        ockham(folder, *words, str(file)),
        ockham(folder, *words, "-", stdin=content.decode()),
        ockham(folder, *words, str(pipe)),
    ]
    writer.join()
    for done in results:
        assert done.returncode == 2
        assert "pin: empty, without a tree head" in done.stderr


def test_pin_from_stdin_is_a_pin(folder):
    """`ockham pin` can be piped into `ockham verify`."""
    pin = (folder / "demo.pin").read_text(encoding="utf-8")
    done = ockham(folder, "verify", "demo", "--pin", "-", stdin=pin)
    assert done.returncode == 0
    assert "pinned to" in done.stdout


def test_pin_of_an_emptied_tree_head_is_refused(tmp_path):
    """`ockham pin` writes no pin without a tree head."""
    run = make_run(tmp_path, "a", batches=3)
    (run.folder.log_dir(1, 0) / "checkpoint").write_bytes(b"")
    with pytest.raises(
        Exception, match="checkpoint: empty, not a tree head; nothing was pinned, run `ockham verify a`"
    ):
        make_pin(run.folder)
    with pytest.raises(BadInputError, match="pin: has more than"):
        from ockham.record.tlog.pin import MAX_PIN_BYTES, parse_pin

        parse_pin(b"x" * (MAX_PIN_BYTES + 1))
