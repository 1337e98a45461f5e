"""Indexes of rows: what each can do (`protocol.py`), and a module for each kind.

`search/build.py` names the kinds. A new one is a class with the methods of `Index` and an entry
there.
"""
