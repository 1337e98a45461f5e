"""Neighbours, density and memory: how images without labels become clusters."""
