"""The trained network as files for other programs."""
