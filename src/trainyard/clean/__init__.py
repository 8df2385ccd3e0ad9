"""`trainyard clean`: what takes room and is of no use any more. Shows first; what is in use or referred to stays."""
