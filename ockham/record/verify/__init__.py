"""Verification of a run: lines, sequence, tree, files, ranks and Parquet files."""
