"""Completions in, numbers with intervals out; the same code for every arm."""
