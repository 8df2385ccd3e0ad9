"""Tracking: what a stage records goes to a local spool first, and a process of its own sends it to MLflow.

run.py is what a stage uses. journal.py is the spool. poster.py is that process; store.py alone imports mlflow.
"""
