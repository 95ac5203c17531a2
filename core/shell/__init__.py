"""The shell: base reference, delta (ΔG and Δθ), fitted preprocessing, provenance, and a card. It holds no
copy of the base.

shell/
  delta.json           the edits, the base's digest, and how each changed tensor is stored
  delta.safetensors    the tensors that differ from θ0', and nothing else
  preprocess.json      the state of every transform and of the task
  provenance.json      the recipe, base, data digests, plugins, versions, seed, scores
  README.md            the card
"""

FORMAT = 1
"""The version of the shell's layout: `core.shell.read` refuses others."""

LIBRARIES = ("torch", "numpy", "safetensors", "pluggy", "pydantic", "scikit-learn")
"""Whose versions the provenance records."""
