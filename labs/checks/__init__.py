"""The labs' checks: each runs a learner's answer on the real brokers, prints a verdict and a hint, and never raises."""
