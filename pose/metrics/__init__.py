"""Measures of gestures and faces: pure functions on arrays, every variant of a measure under its own name."""
