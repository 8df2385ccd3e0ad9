"""An exported model at work on a Ray cluster: as replicas of the server, and on many files at once."""
