"""Labels for infrared images: optimal transport, and the bank that holds them."""
