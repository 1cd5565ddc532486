"""Figures of runs, recomputed from the lines of their logs with plain Python only."""
