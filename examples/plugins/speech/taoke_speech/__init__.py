"""Spoken digits, adapted to a new speaker: a plugin for taoke."""
