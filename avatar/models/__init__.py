"""Networks of the video stage, one file a family."""
