"""Exact search and the scores of a ranking."""
