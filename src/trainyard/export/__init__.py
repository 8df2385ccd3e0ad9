"""A trained model in a portable format, verified against the network it came from."""
