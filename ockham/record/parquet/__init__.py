"""Parquet files of a log: rows, tables, coverage and their builder."""
