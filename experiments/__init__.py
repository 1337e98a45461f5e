"""Comparisons as one command each: `python -m experiments <plan>`, a thin wrapper of DVC.

plans: what is compared, as data. runs: the parameters of each run. runner: one `dvc exp run` for
each row and seed. schedule: which runs are on at once. workspace: the kept copies of the repository
in which they run, so that DVC checks out and hashes the images once and not for each row. process:
DVC as a child. differences: paired over seeds, with intervals. tables: the results side by side, as
JSON and as text.
"""
