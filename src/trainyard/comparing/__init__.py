"""Trained models held against one another, any number of them: as a page, as a table on the terminal, and as JSON."""
