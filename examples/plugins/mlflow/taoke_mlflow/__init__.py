"""Runs in MLflow, as an observer: a plugin for taoke."""
