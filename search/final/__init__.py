"""The final model: which configuration is trained, and where its weights are written."""
