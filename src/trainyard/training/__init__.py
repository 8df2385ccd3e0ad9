"""One fit in one process, how it is spread over Ray workers, and what it leaves on disk."""
