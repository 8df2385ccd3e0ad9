"""`trainyard plan`: what `dvc repro` would run, why, and what it would take. Changes nothing."""
