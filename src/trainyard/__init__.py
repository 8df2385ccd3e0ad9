"""Trainyard: one reproducible pipeline from raw data to a model that you can trust and ship."""

__version__ = "0.1.0"
