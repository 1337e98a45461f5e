"""What every run needs: parameters, a device, seeds, records."""
