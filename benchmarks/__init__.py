"""Programs that measure the project: `python -m benchmarks.<name> --help`."""
