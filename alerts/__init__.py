"""Recording and alerting rules for each phase."""
