"""What a terminal shows: the plan, the live view, the answer, status, charts."""
