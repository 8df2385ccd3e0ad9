"""Claims of an introduction to deep learning, each as a small run whose result is a table, a figure and a yes or no."""
