"""Drop zone that computes the SHA-256 of a file in the browser. The file is never sent to the server."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

NAME = "ockham-file-digest"
HTML = """<label>
  <span>Drop a file here, or select one. It stays on this machine.</span>
  <input type="file" aria-label="File to identify">
  <output aria-live="polite"></output>
</label>"""
CSS = """label {
  display: flex; flex-direction: column; gap: .4rem; padding: .9rem; border: 1px dashed #767676;
  border-radius: .4rem; font-size: .875rem; cursor: pointer;
}
output { overflow-wrap: anywhere; font-family: monospace; font-size: .75rem; }"""
SHA256 = re.compile(r"[0-9a-f]{64}")


def file_digest(key: str) -> str | None:
    """Show the drop zone, and return the digest of the file that was just selected.

    Args:
        key: Key of the widget.

    """
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    component = st.components.v2.component(NAME, html=HTML, css=CSS, js=script)
    digest = component(key=key, on_digest_change=lambda: None).digest
    # The value is sent by the browser, so it can be anything.
    return digest if isinstance(digest, str) and SHA256.fullmatch(digest) else None
