"""Trainings that other libraries run: Lightning's and Transformers' own loops, under our plan."""
