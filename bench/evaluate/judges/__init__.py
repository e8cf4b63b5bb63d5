"""Judges: given two summaries of one prompt, say which is better."""
