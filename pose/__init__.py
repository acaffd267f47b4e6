"""The gesture stage: speech to motion, and motion to keypoints in a photo."""
