"""Studies of whole runs: compare two, count what one saved, ablate a policy; each arm is an `ockham train` process."""
