"""Metrics, labels and rankings → one page to look at, and the result table for the terminal."""
