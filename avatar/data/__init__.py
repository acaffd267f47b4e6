"""Prepared clips: what the video stage learns from, in shards."""
