"""What opens when: range test, search, confirmation, and the statistics of each."""
