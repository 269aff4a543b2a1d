"""What came out of a study, and how it stands: read from the database, for whoever shows it."""
