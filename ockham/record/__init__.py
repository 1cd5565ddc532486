"""The written record of a run: layout, writing, signing, recovery and verification."""
