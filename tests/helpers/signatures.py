"""Tree heads over edited lines, as a holder of the key can write them."""

from __future__ import annotations

from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin


def sign_again(folder: RunFolder, attempt: int = 1, rank: int = 0) -> None:
    """Replace the tree heads of a log by one of its present lines."""
    log, tree = folder.log_dir(attempt, rank), CompactRange()
    for segment in folder.segments(attempt, rank):
        for line in read_complete_lines(segment)[0]:
            tree.append(leaf_hash(line))
    head = TreeHead(tree.size, tree.root())
    note = load_or_create_signer().sign(checkpoint_body(origin(folder.run_id, attempt, rank), head))
    (log / "checkpoint").write_bytes(note)
    (log / "checkpoints").write_bytes(note + b"\n")
