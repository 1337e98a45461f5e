"""Training across modalities: DEN, OTLA and PAL."""
