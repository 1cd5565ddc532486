"""Replay of recorded contexts, under the same policy to verify a run, under another one for what-if results."""
