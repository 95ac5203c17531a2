"""The tests import MLflow themselves, and so see to it that it starts no thread that draws from Python's generator."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
