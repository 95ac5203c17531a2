"""Tumours told apart by measurements of cells: a plugin for taoke."""
