"""Occam Decision Records: parse, lint, check, render."""
