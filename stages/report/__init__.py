"""Metrics, labels and rankings → one page to look at, and the result table for the terminal.

figures: what is drawn, each diagram once, for the page and for `dvc plots`. page: the HTML.
"""
