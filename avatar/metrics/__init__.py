"""Measures of finished video: functions of arrays. Detection and files are the business of infer/."""
