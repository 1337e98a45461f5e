"""Backbones, what stands on them, and embedding with them."""
