"""Networks of the gesture stage: four diffusion systems and the codec of one of them."""
