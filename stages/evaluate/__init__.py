"""Retrieval by the protocol of the data set."""
