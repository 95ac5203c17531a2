"""Scores, paired statistics and the verdict, all recomputable from the predictions that a run keeps."""
