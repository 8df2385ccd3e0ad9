"""Where a run and a file come from, and the way back: what a run records of itself, which, and reproduce."""
