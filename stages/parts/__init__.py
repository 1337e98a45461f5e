"""What the stages are made of. No part imports a stage or another part; the stages combine them."""
