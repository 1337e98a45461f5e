"""Comparisons as one command each: `python -m experiments <plan>`, a thin wrapper of DVC's experiments.

plans: what is compared, as data. runner: one `dvc exp run --temp` a row and seed. tables: the figures side by side.
"""
