"""Replay of recorded contexts: the same policy verifies a run, another one answers what-if."""
