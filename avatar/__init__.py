"""The video stage: photo, keypoints and speech to frames."""
