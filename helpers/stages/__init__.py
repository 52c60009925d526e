"""What a run is made of: each stage takes a network in its state and leaves it in the next."""
