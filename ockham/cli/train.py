"""`ockham train`: the train.py at the top of the checkout or in the wheel, as a verb."""

from __future__ import annotations

import runpy

import typer

from ockham import resources


def register(app: typer.Typer) -> None:
    """Add the verb."""
    main = runpy.run_path(str(resources.data_root() / "train.py"), run_name="ockham_train")["main"]
    app.command("train")(main)
