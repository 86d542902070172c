"""Small tensors, and a test on each core: threads of PyTorch would only stand in each other's way."""

import torch

torch.set_num_threads(1)
