"""The stream: which text, which windows, and what the gate is calibrated to, from counters alone."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import DataError
from ockham.nano.adaptation_stream import AdaptationStream, split_validation
from ockham.nano.data import Batches, load_corpus
from tests.helpers.tiny_trainer import text, trainer


def corpora(folder):
    """Familiar text is lower case, new text upper case: a batch shows where it comes from."""
    familiar = load_corpus(text(folder))
    (folder / "new.txt").write_bytes(text(folder).read_bytes().upper())
    return familiar, load_corpus(folder / "new.txt")


def is_upper(tokens):
    letters = tokens[tokens >= ord("A")]
    return bool((letters <= ord("Z")).all())


def test_batches_are_homogeneous_and_say_where_they_come_from(tmp_path):
    """All windows of one batch are of one text, in the share that was asked for, and again the same."""
    stream = AdaptationStream(*corpora(tmp_path), 0.3, 4, 8, 7)
    drawn = [stream.sample_batch(at)[0] for at in range(400)]
    assert [is_upper(tokens) for tokens in drawn] == [stream.is_new(at) for at in range(400)]
    assert 0.25 < sum(stream.is_new(at) for at in range(400)) / 400 < 0.35
    again = AdaptationStream(*corpora(tmp_path), 0.3, 4, 8, 7)
    assert all(torch.equal(again.sample_batch(at)[0], tokens) for at, tokens in enumerate(drawn))


def test_what_is_held_out_is_never_served(tmp_path):
    """Familiar text: the first half of the validation text is served, the second half held out."""
    familiar, new = corpora(tmp_path)
    parts = split_validation(familiar)
    assert bytes(parts.train) + bytes(parts.val) == bytes(familiar.val)
    stream = AdaptationStream(familiar, new, 0.0, 4, 8, 7)
    rows = [bytes(row.tolist()) for at in range(20) for row in stream.sample_batch(at)[0]]
    assert all(row in bytes(parts.train) for row in rows)
    assert not is_upper(stream.sample_batch(0, 0, "val")[0])


def test_calibration_reads_familiar_text_alone_and_other_windows_than_the_stream(tmp_path):
    """Even where nearly all of the stream is new, and the same windows are not looked at beforehand."""
    familiar, new = corpora(tmp_path)
    t = trainer(tmp_path)
    mostly_new, all_old = (AdaptationStream(familiar, new, share, 4, 8, 7) for share in (0.99, 0.0))
    assert mostly_new.calibrate(t.model) == all_old.calibrate(t.model)
    found = all_old.calibrate(t.model)
    assert found.batches == 40
    assert found.sd > 0
    plain = [float(t.model.loss(*Batches.sample_batch(all_old, at)).detach()) for at in range(40)]
    assert found.mean != pytest.approx(sum(plain) / 40, abs=1e-9)


def test_text_of_another_vocabulary_is_refused(tmp_path):
    """Tokens of a .bin are no bytes."""
    familiar, _ = corpora(tmp_path)
    folder = tmp_path / "bins"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}.bin").write_bytes(b"\1\0" * 200)
    with pytest.raises(DataError, match="uint16 tokens of a vocabulary of 50304"):
        AdaptationStream(familiar, load_corpus(folder), 0.5, 4, 8, 7)
