"""Two test processes share two cores: each computes with one thread, or they would wait for each other."""

import cv2
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)
