"""What is learned: loss, metrics and optimizer around a network, as Lightning modules."""
