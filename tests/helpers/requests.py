"""Requests of people for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ockham.context import OccamContext
from ockham.plugin import OccamPlugin
from ockham.record.request_folder import write_request
from ockham.record.requests import SignedRequest, make_request, sign_request
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import Signer, VerifierKey, load_or_create_signer


def new_signer(name: str = "someone-else") -> Signer:
    """Return a key that is not the user's."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Signer(key, VerifierKey(name, public))


def signed_request(
    folder: RunFolder, action: Any, signer: Signer | None = None, **fields: Any
) -> SignedRequest:
    """Return a request of alice, signed by the user's key or another one."""
    request = make_request(folder, action, "alice", "because of the loss", **fields)
    return sign_request(request, signer or load_or_create_signer())


def ask(folder: RunFolder, action: Any, signer: Signer | None = None, **fields: Any) -> Path:
    """Write a request into the folder of a run. Return its path."""
    return write_request(folder, signed_request(folder, action, signer, **fields))


class Asker(OccamPlugin):
    """Writes a request of a person at one batch, as `ockham stop` and `ockham intervene` do.

    Args:
        runs: Folder of runs.
        run_id: The run.
        iter_num: Iteration of the batch.
        setting: Setting of an intervention. Empty stops the run.

    """

    name = "asker"

    def __init__(self, runs: str = "", run_id: str = "a", iter_num: int = 3, setting: str = "") -> None:
        self.runs = runs
        self.run_id = run_id
        self.iter_num = iter_num
        self.setting = setting

    def on_batch_end(self, ctx: OccamContext) -> None:
        if ctx.iter_num == self.iter_num and ctx.ends_step:
            fields = {"settings": (self.setting,)} if self.setting else {}
            ask(RunFolder(self.runs, self.run_id), "INTERVENE" if self.setting else "STOP", **fields)
