"""Structural attacks and honest crashes over real runs, and an independent model of what they prove."""
