"""The judge: whole searches on recorded families of tasks, everything that trains counted."""
