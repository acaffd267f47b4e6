"""Pose vectors: how each gesture system writes a frame of `Motion` as numbers, and back."""
