"""What the configs of one runtime share, a module each. They import torch: import them inside functions."""
