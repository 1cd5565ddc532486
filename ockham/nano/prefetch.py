"""The next micro-batch, gathered on a thread while the device computes this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import torch

from ockham.nano.data import Batches, Corpus


class PrefetchingBatches(Batches):
    """Draws what `Batches` does, from two buffers in turn; pinned ones, so that a copy to a GPU is asynchronous.

    A buffer is filled again only after the loss of its batch has been read: by then its copy is over. So draw one batch
    after the other, and read each one's loss before the next.

    Args:
        corpus: as for `Batches`, and so are the others.
        micros: micro-batches of a step: after the last one the next step's first is drawn.

    """

    def __init__(self, corpus: Corpus, *arguments: Any, micros: int = 1, **more: Any) -> None:
        super().__init__(corpus, *arguments, **more)
        self.micros = micros
        shape, pinned = (self.batch_size, self.block_size + 1), self.device.type == "cuda"
        self._buffers = [torch.empty(shape, dtype=torch.int64, pin_memory=pinned) for _ in range(2)]
        self._thread = ThreadPoolExecutor(1, "ockham-batches")
        self._next: tuple[tuple[int, int], Future[torch.Tensor]] | None = None

    def sample_batch(
        self, iter_num: int, micro_step: int = 0, split: Literal["train", "val"] = "train"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one micro-batch; that of the training text which comes after it is begun."""
        if split == "val":
            return super().sample_batch(iter_num, micro_step, split)
        place, future = self._next or ((-1, -1), None)
        window = None if future is None else future.result()
        if window is None or place != (iter_num, micro_step):  # the first one, or one that is drawn again
            window = self.sample_window(iter_num, micro_step, out=self._buffers[0])
        self._buffers.reverse()
        following = divmod(iter_num * self.micros + micro_step + 1, self.micros)
        self._next = following, self._thread.submit(self.sample_window, *following, out=self._buffers[0])
        return self.to_device(window)
