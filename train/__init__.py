"""Preparation of data and training."""
