"""Training on a cluster from outside it: what is brought there, how it is watched, and what comes back."""
