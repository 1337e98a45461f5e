"""The modality discriminator and the reversal of its gradient."""
