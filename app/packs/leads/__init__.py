"""The autonomous lead agent: from first contact to outcome, every decision explained."""
