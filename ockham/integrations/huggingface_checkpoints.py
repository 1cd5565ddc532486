"""Checkpoints of a Hugging Face Trainer: which one a training continues from, and which ones it saves."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ockham.errors import CheckpointError, OckhamWarning
from ockham.integrations.step_controller import StepController
from ockham.integrations.trainer_state import ResumeRequest, find_on_rank_zero, find_request, write_run_state
from ockham.run import Run

TRAINER_STATE = "trainer_state.json"
_FOLDER = re.compile(r"checkpoint-(\d+)")
_ARGUMENT = "resume_from_checkpoint"


class TrainerCheckpoints:
    """Compares a checkpoint before the Trainer reads it, and signs each checkpoint that it saves."""

    def __init__(self) -> None:
        self._request: ResumeRequest | None = None
        # Folder and state of a checkpoint that the Trainer is writing.
        self._unsigned: tuple[Path, dict[str, Any]] | None = None

    def choose(
        self,
        trainer: Any,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        runs: str | Path,
        run_id: str | None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Find the checkpoint that `trainer.train` is asked to continue from, and compare its files.

        Rank 0 does that for all ranks. With `resume_from_checkpoint=True`, it takes the newest checkpoint
        that the log confirms.

        Args:
            trainer: The Trainer.
            arguments: Arguments of `train`.
            keywords: Keywords of `train`.
            runs: Folder of all runs.
            run_id: The only run that may be continued. None accepts any.

        Returns:
            The arguments and keywords to call `train` with.

        Raises:
            CheckpointError: If the log does not confirm the files.

        """
        self._request = self._unsigned = None
        keywords = dict(keywords)
        requested = arguments[0] if arguments else keywords.get(_ARGUMENT)
        if requested is True:
            folder = Path(trainer.args.output_dir)
            self._request = find_on_rank_zero(lambda: _find_newest(_list_checkpoints(folder), runs, run_id))
        elif requested:
            self._request = find_on_rank_zero(lambda: find_request(requested, runs, run_id))
        if self._request is not None:
            keywords.pop(_ARGUMENT, None)
            arguments = (str(self._request.checkpoint), *arguments[1:])
        return tuple(arguments), keywords

    def take_request(self) -> ResumeRequest | None:
        """Return the checkpoint from which this training continues, once. A retry does not load it again."""
        request, self._request = self._request, None
        return request

    def save_model(
        self,
        save_model: Callable[..., Any],
        write: Callable[[Path], dict[str, Any]],
        *arguments: Any,
        **keywords: Any,
    ) -> Any:
        """Save the weights, and in a checkpoint also the state of the run. Every rank calls this.

        The Trainer writes its own state last, so a checkpoint that it can load has the state of the run.

        Args:
            save_model: The method of the Trainer.
            write: Writes the state of the run into a folder.
            arguments: Arguments of the method.
            keywords: Keywords of the method.

        """
        result = save_model(*arguments, **keywords)
        named = {**dict(zip(("output_dir", "_internal_call"), arguments, strict=False)), **keywords}
        folder = named.get("output_dir")
        if named.get("_internal_call") and folder is not None and _FOLDER.fullmatch(Path(folder).name):
            path = Path(folder)
            self._unsigned = path, write(path)
        return result

    def sign(self, run: Run) -> None:
        """Record the files of the checkpoint that the Trainer has written. Every rank calls this."""
        saved, self._unsigned = self._unsigned, None
        # Each rank writes its random numbers.
        run.peers.gather_json(None)
        if run.peers.rank == 0 and saved is not None and saved[0].is_dir():
            run.record_checkpoint(*saved)


def make_writer(controller: StepController, fields: Callable[[], dict[str, Any]]) -> Callable[[Path], Any]:
    """Return the function that writes the state of a run into a checkpoint.

    Args:
        controller: Controller of the training.
        fields: Returns further values that are restored.

    """
    return lambda folder: write_run_state(controller.run, controller, folder, **fields())


def _list_checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints that the Trainer has completed, the newest first."""
    found = [path for path in output.glob("checkpoint-*") if _FOLDER.fullmatch(path.name)]
    complete = [path for path in found if (path / TRAINER_STATE).is_file()]
    return sorted(complete, key=lambda path: -int(path.name.partition("-")[2]))


def _find_newest(folders: Sequence[Path], runs: str | Path, run_id: str | None) -> ResumeRequest | None:
    """Return the newest usable checkpoint. None without any checkpoint, which the Trainer reports.

    Raises:
        CheckpointError: If none can be used.

    """
    first: CheckpointError | None = None
    for folder in folders:
        try:
            return find_request(folder, runs, run_id)
        except CheckpointError as error:
            first = first or error
            warnings.warn(f"not used: {error}", OckhamWarning, stacklevel=4)
    if first is not None:
        raise first
    return None
