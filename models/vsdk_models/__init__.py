"""PyTorch modules, checkpoint loaders and the training of the models that ship with vsdk (build side)."""
