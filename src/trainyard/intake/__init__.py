"""Data as they come: look at them, write a recipe for them, check, fetch and verify them."""
