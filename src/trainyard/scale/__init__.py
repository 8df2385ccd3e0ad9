"""How fast a training would be on more machines, and how often it should be saved there: arithmetic alone, nothing is run."""
