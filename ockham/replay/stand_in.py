"""The plugins that a replay runs: fresh ones, and stand-ins for third-party code that may not be imported."""

from __future__ import annotations

from typing import Any

import orjson

from ockham.context import TABLE, OccamContext
from ockham.event import lossless
from ockham.plugin import OccamPlugin
from ockham.plugins import BUILT_IN
from ockham.policy import Policy
from ockham.replay.steps import value_of


class StandIn(OccamPlugin):
    """Turns the knobs as the log says that the third party's plugin did; `due` are its decisions in this step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.due: list[dict[str, Any]] = []

    def on_batch_start(self, ctx: OccamContext) -> None:
        """What it did at the start of this batch."""
        self._again(ctx, "on_batch_start")

    def on_batch_end(self, ctx: OccamContext) -> None:
        """What it did at the end of this batch."""
        self._again(ctx, "on_batch_end")

    def on_evaluate(self, ctx: OccamContext) -> None:
        """What it did at this evaluation."""
        self._again(ctx, "on_evaluate")

    def on_consolidate(self, ctx: OccamContext) -> None:
        """What it did at this consolidation."""
        self._again(ctx, "on_consolidate")

    def _again(self, ctx: OccamContext, hook: str) -> None:
        for made in self.due:
            if made["hook"] == hook:
                ctx.turn(
                    {
                        c["field"]: value_of(c["field"], c["after"])
                        for c in made["changes"]
                        if c["field"] in TABLE
                    }
                )


def third_party(policy: Policy) -> dict[str, str]:
    """Plugins of a policy that are not ours: name -> where their class is said to be."""
    return {
        entry["name"]: entry["use"] for entry in policy.content["plugins"] if entry["use"] not in BUILT_IN
    }


def plugins_of(policy: Policy, *, trust: bool) -> list[OccamPlugin]:
    """Fresh plugins in the order of the chain; without `trust`, stand-ins for those that are not ours.

    Raises:
        PolicyError: if a class can't be had.

    """
    content = policy.content
    foreign = {} if trust else third_party(policy)
    ours = {**content, "plugins": [entry for entry in content["plugins"] if entry["name"] not in foreign]}
    built = {plugin.name: plugin for plugin in Policy(orjson.dumps(lossless(ours)), "record").build()}
    chain: list[OccamPlugin] = []
    for entry in content["plugins"]:
        plugin = built.get(entry["name"]) or StandIn(entry["name"])
        plugin.shadow = entry["shadow"]
        chain.append(plugin)
    return chain
