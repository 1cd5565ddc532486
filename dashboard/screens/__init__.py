"""One file, one page; each opens with its question."""
