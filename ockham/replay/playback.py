"""Plugins of a replay: new ones, and playback plugins for third-party code that must not be imported."""

from __future__ import annotations

from typing import Any

import orjson

from ockham.context import FIELDS_BY_NAME, OccamContext
from ockham.event import to_json_value
from ockham.plugin import OccamPlugin
from ockham.plugins import BUILT_IN
from ockham.policy import Policy
from ockham.replay.log_reader import parse_field


class PlaybackPlugin(OccamPlugin):
    """Sets the knobs as the log records for a third-party plugin.

    `recorded_decisions` are those of this step.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.recorded_decisions: list[dict[str, Any]] = []

    def on_batch_start(self, ctx: OccamContext) -> None:
        """Play back the decisions at the start of this batch."""
        self._play_back(ctx, "on_batch_start")

    def on_gradients(self, ctx: OccamContext) -> None:
        """Play back the decisions on the gradients of this step."""
        self._play_back(ctx, "on_gradients")

    def on_batch_end(self, ctx: OccamContext) -> None:
        """Play back the decisions at the end of this batch."""
        self._play_back(ctx, "on_batch_end")

    def on_evaluate(self, ctx: OccamContext) -> None:
        """Play back the decisions at this evaluation."""
        self._play_back(ctx, "on_evaluate")

    def on_consolidate(self, ctx: OccamContext) -> None:
        """Play back the decisions at this consolidation."""
        self._play_back(ctx, "on_consolidate")

    def _play_back(self, ctx: OccamContext, hook: str) -> None:
        for made in self.recorded_decisions:
            if made["hook"] == hook:
                ctx.set_knobs(
                    {
                        c["field"]: parse_field(c["field"], c["after"])
                        for c in made["changes"]
                        if c["field"] in FIELDS_BY_NAME
                    }
                )


def third_party_plugins(policy: Policy) -> dict[str, str]:
    """Return the third-party plugins of a policy: name -> import path of the class."""
    return {
        entry["name"]: entry["use"] for entry in policy.content["plugins"] if entry["use"] not in BUILT_IN
    }


def build_plugins(policy: Policy, *, trust: bool) -> list[OccamPlugin]:
    """Return new plugins in the order of the chain. Without `trust`, third-party plugins are played back.

    Raises:
        PolicyError: If a class cannot be used.

    """
    content = policy.content
    foreign = {} if trust else third_party_plugins(policy)
    ours = {**content, "plugins": [entry for entry in content["plugins"] if entry["name"] not in foreign]}
    built = {plugin.name: plugin for plugin in Policy(orjson.dumps(to_json_value(ours)), "record").build()}
    chain: list[OccamPlugin] = []
    for entry in content["plugins"]:
        plugin = built.get(entry["name"]) or PlaybackPlugin(entry["name"])
        plugin.shadow = entry["shadow"]
        chain.append(plugin)
    return chain
