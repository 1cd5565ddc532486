"""Custom components of the pages: Python interfaces, and scripts in `assets`."""
