"""Synthetic people: CC0 human meshes, our motion, a rasteriser, exact labels."""
