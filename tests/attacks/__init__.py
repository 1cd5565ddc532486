"""Structural attacks and honest crashes over real runs, checked against an independent model of the proofs."""
