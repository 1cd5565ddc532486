"""Stream of an adaptation: kind of text, windows and calibration, which depend only on counters."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import DataError
from ockham.nano.adaptation_stream import AdaptationStream, split_validation
from ockham.nano.data import Batches, load_corpus
from tests.helpers.tiny_trainer import text, trainer


def make_corpora(folder):
    """Return familiar text in lower case and new text in upper case, so that a batch shows its source."""
    familiar = load_corpus(text(folder))
    (folder / "new.txt").write_bytes(text(folder).read_bytes().upper())
    return familiar, load_corpus(folder / "new.txt")


def is_upper(tokens):
    letters = tokens[tokens >= ord("A")]
    return bool((letters <= ord("Z")).all())


def test_stream_batches_contain_only_one_kind_of_text(tmp_path):
    """All windows of a batch are of one text, in the given fraction, and equal for an equal stream."""
    stream = AdaptationStream(*make_corpora(tmp_path), 0.3, 4, 8, 7)
    batches = [stream.sample_batch(i)[0] for i in range(400)]
    assert [is_upper(tokens) for tokens in batches] == [stream.is_new(i) for i in range(400)]
    assert 0.25 < sum(stream.is_new(i) for i in range(400)) / 400 < 0.35
    again = AdaptationStream(*make_corpora(tmp_path), 0.3, 4, 8, 7)
    assert all(torch.equal(again.sample_batch(i)[0], tokens) for i, tokens in enumerate(batches))


def test_held_out_familiar_text_is_never_served(tmp_path):
    """The first half of the validation text is served, the second half is held out."""
    familiar, new = make_corpora(tmp_path)
    parts = split_validation(familiar)
    assert bytes(parts.train) + bytes(parts.val) == bytes(familiar.val)
    stream = AdaptationStream(familiar, new, 0.0, 4, 8, 7)
    rows = [bytes(row.tolist()) for i in range(20) for row in stream.sample_batch(i)[0]]
    assert all(row in bytes(parts.train) for row in rows)
    assert not is_upper(stream.sample_batch(0, 0, "val")[0])


def test_calibration_uses_familiar_text_in_windows_that_are_not_served(tmp_path):
    """The result does not depend on the fraction of new text, and differs from the loss on served windows."""
    familiar, new = make_corpora(tmp_path)
    tiny = trainer(tmp_path)
    mostly_new, all_familiar = (AdaptationStream(familiar, new, share, 4, 8, 7) for share in (0.99, 0.0))
    assert mostly_new.calibrate(tiny.model) == all_familiar.calibrate(tiny.model)
    calibration = all_familiar.calibrate(tiny.model)
    assert calibration.batches == 40
    assert calibration.sd > 0
    plain = [float(tiny.model.loss(*Batches.sample_batch(all_familiar, i)).detach()) for i in range(40)]
    assert calibration.mean != pytest.approx(sum(plain) / 40, abs=1e-9)


def test_calibration_is_mean_and_sample_standard_deviation(tmp_path):
    """The squared differences are divided by n - 1."""
    familiar, new = make_corpora(tmp_path)
    model, stream = trainer(tmp_path).model, AdaptationStream(familiar, new, 0.5, 4, 8, 7)
    windows = [Batches.sample_batch(stream, number, 1 << 32) for number in range(3)]
    losses = [float(model.loss(*window).detach()) for window in windows]
    mean = sum(losses) / 3
    sd = (sum((loss - mean) ** 2 for loss in losses) / 2) ** 0.5
    assert stream.calibrate(model, 3)[:2] == pytest.approx((mean, sd), rel=1e-6)


def test_stream_rejects_text_with_another_vocabulary(tmp_path):
    """Tokens of .bin files are not bytes."""
    familiar, _ = make_corpora(tmp_path)
    folder = tmp_path / "bins"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}.bin").write_bytes(b"\1\0" * 200)
    with pytest.raises(DataError, match="uint16 tokens with a vocabulary of 50304"):
        AdaptationStream(familiar, load_corpus(folder), 0.5, 4, 8, 7)
