"""The build; everything static stands in pyproject.toml."""

from setuptools import setup

setup()
