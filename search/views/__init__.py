"""What people see of a study: terminal, pages, dashboard."""
