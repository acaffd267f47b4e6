"""Readers of the public gesture datasets in their own formats; `python -m pose.datasets FOLDER` checks a copy.

Every reader has `recordings` (listed from names alone), `faults` (what listing found wrong) and
`load(recording, fps) -> Clip`, which raises ValueError for a recording that cannot be used.
"""
