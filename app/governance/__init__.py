"""Who did what and why: audit, flags, experiments, policies, decisions, outcomes, privacy."""
