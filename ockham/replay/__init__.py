"""Replay of recorded contexts: under the same policy to verify a run, under another policy for a what-if result."""
