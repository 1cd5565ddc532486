"""Transparency log: Merkle tree, tiles, signed tree heads, proofs and pins."""
