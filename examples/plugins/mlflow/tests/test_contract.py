"""The contract, clause by clause."""

from core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "mlflow"
