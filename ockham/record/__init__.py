"""The written record of a run: the one place where files are laid out, written, signed, recovered and verified."""
