"""What runs in the training process: data preparation, plans, local training, privacy per sample.

The only package that imports torch, MONAI and Opacus, and never into a node's main process:
importing this package itself imports none of them.
"""
