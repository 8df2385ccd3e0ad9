"""What params.yaml may hold, said from the configs that read it."""
