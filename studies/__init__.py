"""What a study is and where it is kept."""
