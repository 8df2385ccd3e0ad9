"""Questions that take several trainings of one recipe: how much a result depends on the seed, and on the number of samples."""
