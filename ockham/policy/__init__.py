"""Policy: what the system should do. Documents, presets and plugin classes become one resolved policy."""

from ockham.policy.policy import HYPERPARAMETERS as HYPERPARAMETERS
from ockham.policy.policy import Policy as Policy
from ockham.policy.policy import load_policy as load_policy
from ockham.policy.policy import load_preset as load_preset
from ockham.policy.policy import plugin_sources as plugin_sources
from ockham.policy.policy import policy_from_json as policy_from_json
from ockham.policy.policy import policy_from_plugins as policy_from_plugins
from ockham.policy.policy import with_default_plugins as with_default_plugins
