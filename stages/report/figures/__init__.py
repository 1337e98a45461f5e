"""What is drawn: each diagram once, for the page and for `dvc plots`."""
