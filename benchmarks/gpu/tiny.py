"""`cifar` with few images and a small net, for a machine without a GPU: accuracies mean nothing.

It exists so that the benchmark itself can be tried on a CPU.
"""

from benchmarks.gpu.setting import tiny_study

STUDY = tiny_study()
