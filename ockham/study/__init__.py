"""Studies of complete runs: compare two, compute savings, ablate a policy.

Each arm is an `ockham train` process.
"""
