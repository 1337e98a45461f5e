"""Indexes of rows: what each can do, and one module for each kind.

KINDS names them all. A new kind is a class with the methods of `Index` and an entry there.
"""
