"""Ockham inside other people's trainers; each file needs its extra."""
