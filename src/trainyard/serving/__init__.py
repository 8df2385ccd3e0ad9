"""A trained model at work: raw inputs in, answers out, without the frameworks that it was trained with."""
