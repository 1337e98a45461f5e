"""Labels for the visible images, by SpCL."""
