"""The geometric prior: the photo moved by keypoints, with a confidence for every pixel."""
