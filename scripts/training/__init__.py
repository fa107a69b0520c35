"""Components of the training configs: losses, batch preparation, augmentation, handlers, validation metrics."""
