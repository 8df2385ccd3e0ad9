"""Networks: plain modules, each built from its config and the shape of its data."""
