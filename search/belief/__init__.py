"""What is believed of configurations, trained or not: a process in range-test coordinates."""
