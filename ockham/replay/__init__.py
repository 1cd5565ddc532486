"""The same contexts again: under the same policy as a proof, under another policy as a question."""
