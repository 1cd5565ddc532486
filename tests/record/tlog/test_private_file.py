"""Private keys that other users can read or replace are refused, through links as well."""

from __future__ import annotations

import os
import stat
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.record.tlog import private_file
from ockham.record.tlog.note import load_or_create_signer, local_verifier_key
from ockham.record.tlog.private_file import describe_link
from tests.helpers.runs import make_run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def folder(tmp_path):
    """Folder with a key of this user."""
    load_or_create_signer(tmp_path / "keys")
    return tmp_path / "keys"


@given(st.integers(0, 0o777))
def test_key_file_is_used_only_if_no_other_user_has_access(tmp_path_factory, mode):
    """Any permission of group or others is refused, with the command that removes it."""
    folder = tmp_path_factory.mktemp("modes")
    file = folder / "log.key"
    load_or_create_signer(folder)
    file.chmod(mode)
    if mode & 0o077:
        with pytest.raises(BadInputError, match=f"mode {mode:04o}.*`chmod 600 {file}`"):
            load_or_create_signer(folder)
    elif mode & 0o400 or os.geteuid() == 0:
        load_or_create_signer(folder)


@given(st.integers(0, 0o1777), st.booleans())
def test_key_folder_is_used_only_if_no_other_user_can_write(tmp_path_factory, mode, private):
    """The group of one user does not count. The sticky bit does not help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_file, "_is_private_group", lambda _: private)
        check_key_folder(tmp_path_factory, mode, 0o002 if private else 0o022)


def check_key_folder(tmp_path_factory, mode, refused):
    folder = tmp_path_factory.mktemp("modes") / "keys"
    for make_first in (True, False):
        folder.mkdir(exist_ok=True, mode=0o700)
        if make_first:
            load_or_create_signer(folder)
        folder.chmod(mode | 0o700)
        if mode & refused:
            with pytest.raises(BadInputError, match=f"`chmod go-w {folder}`"):
                load_or_create_signer(folder)
        else:
            load_or_create_signer(folder)
        folder.chmod(0o700)
        (folder / "log.key").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o777, False), (0o770, False), (0o1777, True), (0o755, True)]
)
def test_folders_above_are_checked(tmp_path, monkeypatch, mode, accepted):
    """Who can rename the key folder can replace the key. A sticky folder forbids it."""
    monkeypatch.setattr(private_file, "_is_private_group", lambda _: False)
    load_or_create_signer(tmp_path / "above" / "more" / "keys")
    (tmp_path / "above").chmod(mode)
    if accepted:
        load_or_create_signer(tmp_path / "above" / "more" / "keys")
    else:
        with pytest.raises(BadInputError, match=f"the folder {tmp_path / 'above'} has mode {mode:04o}"):
            load_or_create_signer(tmp_path / "above" / "more" / "keys")


@pytest.mark.parametrize("link", ["file", "folder", "chain"])
@pytest.mark.parametrize("fault", ["none", "file", "target folder", "link folder"])
def test_link_is_followed_and_both_ends_are_checked(folder, tmp_path, link, fault):
    """The message names the target of the link."""
    (tmp_path / "links").mkdir(mode=0o700)
    path = tmp_path / "links" / "keys"
    if link == "file":
        path.mkdir(mode=0o700)
        (path / "log.key").symlink_to(folder / "log.key")
    elif link == "folder":
        path.symlink_to(folder)
    else:
        (tmp_path / "links" / "second").symlink_to("../keys")
        path.symlink_to("second")
    if fault == "file":
        (folder / "log.key").chmod(0o666)
    elif fault == "target folder":
        folder.chmod(0o777)
    elif fault == "link folder":
        (tmp_path / "links").chmod(0o777)
    assert f"(link to {folder / 'log.key'})" in describe_link(path / "log.key")
    if fault == "none":
        assert load_or_create_signer(path).verifier == load_or_create_signer(folder).verifier
        return
    with pytest.raises(BadInputError, match=f"link to {folder / 'log.key'}.*chmod"):
        load_or_create_signer(path)


@needs_root
@pytest.mark.parametrize("name", ["log.key", "."])
def test_key_or_folder_of_another_user_is_refused(folder, name):
    """The owner can always change the mode."""
    os.chown(folder / name, 12345, -1)
    with pytest.raises(BadInputError, match=r"owned by user 12345.*`chown 0 "):
        load_or_create_signer(folder)


def test_new_folders_are_private_with_any_umask(tmp_path):
    """Missing parent folders are created with mode 0700 as well."""
    before = os.umask(0)
    try:
        load_or_create_signer(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    for path in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "dangling"])
def test_key_that_is_not_a_file_is_one_error(tmp_path, kind):
    """A pipe does not block."""
    path = tmp_path / "log.key"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nothing")
    with pytest.raises(BadInputError, match=r"log\.key"):
        load_or_create_signer(tmp_path)


def test_run_with_an_exposed_key_does_not_start(tmp_path, monkeypatch):
    """No event is signed with a key that others may know, and no local key authenticates one."""
    load_or_create_signer(tmp_path / "keys")
    (tmp_path / "keys" / "log.key").chmod(0o666)
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "keys"))
    with pytest.raises(BadInputError, match="chmod 600"):
        make_run(tmp_path / "runs", batches=1)
    with pytest.raises(BadInputError, match="chmod 600"):
        local_verifier_key()


def test_group_of_one_user_is_private():
    """Many systems create it with the user. A group of another name or with members is not private."""
    status = os.stat_result((0o40770, 0, 0, 0, 1000, 1000, 0, 0, 0, 0))
    user = types.SimpleNamespace(pw_name="ada", pw_gid=1000)
    groups = {
        True: types.SimpleNamespace(gr_gid=1000, gr_name="ada", gr_mem=[]),
        False: types.SimpleNamespace(gr_gid=1000, gr_name="ada", gr_mem=["eve"]),
    }
    for private, group in groups.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(private_file.pwd, "getpwuid", lambda _: user)
            patch.setattr(private_file.grp, "getgrgid", lambda _, group=group: group)
            assert private_file._is_private_group(status) is private
