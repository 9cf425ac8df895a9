"""Each family against the public reference implementation, with the same weights, there and back."""
