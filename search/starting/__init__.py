"""A command's way in: the study found or made, its cost, its workers started here or on Slurm."""
