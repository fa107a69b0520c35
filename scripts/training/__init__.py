"""What the training configs name: losses, batch preparation, augmentation, ignite handlers, validation metrics."""
