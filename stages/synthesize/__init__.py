"""Render people seen by cameras, in the trees of the real data sets."""
