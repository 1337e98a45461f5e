"""What every stage needs: parameters, a device, seeds, files, messages, checkpoints."""
