"""Ockham: event-driven decision logging and audit for GPT training.

The public names are imported on first use. `import ockham` therefore loads neither torch, duckdb nor
streamlit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockham._lazy import make_getattr

if TYPE_CHECKING:
    from ockham.applied_step import AppliedStep as AppliedStep
    from ockham.candidates import ModelSnapshot as ModelSnapshot
    from ockham.candidates import OccamMetrics as OccamMetrics
    from ockham.catalog import Catalog as Catalog
    from ockham.chain import PluginChain as PluginChain
    from ockham.context import OccamContext as OccamContext
    from ockham.errors import BadInputError as BadInputError
    from ockham.errors import OckhamError as OckhamError
    from ockham.guard import Guard as Guard
    from ockham.plugin import OccamPlugin as OccamPlugin
    from ockham.plugins.anchor import AnchorPlugin as AnchorPlugin
    from ockham.plugins.compressor import CompressorPlugin as CompressorPlugin
    from ockham.plugins.eq import EQPlugin as EQPlugin
    from ockham.plugins.finite import FinitePlugin as FinitePlugin
    from ockham.plugins.gate import OckhamGatePlugin as OckhamGatePlugin
    from ockham.plugins.limiter import LimiterPlugin as LimiterPlugin
    from ockham.plugins.memory import OckhamMemory as OckhamMemory
    from ockham.plugins.memory import OckhamMemoryV2 as OckhamMemoryV2
    from ockham.plugins.saturation import SaturationPlugin as SaturationPlugin
    from ockham.plugins.spike import SpikePlugin as SpikePlugin
    from ockham.plugins.watchdog import KLWatchdogPlugin as KLWatchdogPlugin
    from ockham.policy import Policy as Policy
    from ockham.policy import load_policy as load_policy
    from ockham.policy import load_preset as load_preset
    from ockham.quotient import occam_quotient as occam_quotient
    from ockham.record.checkpoints import CheckpointFiles as CheckpointFiles
    from ockham.record.checkpoints import ResumePoint as ResumePoint
    from ockham.record.checkpoints import find_resume_point as find_resume_point
    from ockham.record.run_folder import RunFolder as RunFolder
    from ockham.record.run_folder import new_run_id as new_run_id
    from ockham.record.trainer_checkpoints import find_trainer_resume_point as find_trainer_resume_point
    from ockham.record.verify.run import verify_run as verify_run
    from ockham.run import Run as Run
    from ockham.step_actions import after_step as after_step
    from ockham.step_actions import before_step as before_step
    from ockham.testing import capture as capture
    from ockham.testing import check_plugin as check_plugin

__version__ = "0.1.0"
_LAZY_IMPORTS = {
    "AnchorPlugin": "ockham.plugins.anchor",
    "AppliedStep": "ockham.applied_step",
    "BadInputError": "ockham.errors",
    "Catalog": "ockham.catalog",
    "CompressorPlugin": "ockham.plugins.compressor",
    "EQPlugin": "ockham.plugins.eq",
    "FinitePlugin": "ockham.plugins.finite",
    "Guard": "ockham.guard",
    "KLWatchdogPlugin": "ockham.plugins.watchdog",
    "SpikePlugin": "ockham.plugins.spike",
    "LimiterPlugin": "ockham.plugins.limiter",
    "ModelSnapshot": "ockham.candidates",
    "OccamContext": "ockham.context",
    "OccamMetrics": "ockham.candidates",
    "OccamPlugin": "ockham.plugin",
    "OckhamError": "ockham.errors",
    "OckhamGatePlugin": "ockham.plugins.gate",
    "OckhamMemory": "ockham.plugins.memory",
    "OckhamMemoryV2": "ockham.plugins.memory",
    "CheckpointFiles": "ockham.record.checkpoints",
    "PluginChain": "ockham.chain",
    "Policy": "ockham.policy",
    "Run": "ockham.run",
    "RunFolder": "ockham.record.run_folder",
    "SaturationPlugin": "ockham.plugins.saturation",
    "ResumePoint": "ockham.record.checkpoints",
    "after_step": "ockham.step_actions",
    "before_step": "ockham.step_actions",
    "capture": "ockham.testing",
    "check_plugin": "ockham.testing",
    "load_policy": "ockham.policy",
    "load_preset": "ockham.policy",
    "new_run_id": "ockham.record.run_folder",
    "occam_quotient": "ockham.quotient",
    "find_resume_point": "ockham.record.checkpoints",
    "find_trainer_resume_point": "ockham.record.trainer_checkpoints",
    "verify_run": "ockham.record.verify.run",
}
# The rule cannot see that sorted() returns a list.
__all__ = sorted([*_LAZY_IMPORTS, "__version__"])  # noqa: PLE0605
__getattr__ = make_getattr(__name__, _LAZY_IMPORTS)
