"""A stored study shown by experiment trackers: TensorBoard, MLflow, W&B."""
