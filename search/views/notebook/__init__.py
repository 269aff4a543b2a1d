"""What a notebook shows: a study while it is worked on, its answer, and a range test."""
