"""Test metrics with intervals, a classical baseline beside them, tables and figures."""
