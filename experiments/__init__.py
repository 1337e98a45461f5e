"""Comparisons as one command each: `python -m experiments <plan>`, a thin wrapper of DVC.

plans: what is compared, as data. runs: the parameters of each run. runner: one `dvc exp run --temp`
for each row and seed. differences: paired over seeds, with intervals. tables: the results side by
side, as JSON and as text.
"""
