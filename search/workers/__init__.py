"""One worker: claims, trains and writes until nothing is left or it is asked to stop."""
