"""Trainyard: one reproducible pipeline from raw data to a model that you can trust and ship."""

import os

# Libraries that tell their makers of their use, as onnxruntime does with each model that it opens, read these when they are
# imported: after this package, whichever part of it imports them.
for _name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
