"""The claims assistant: an insured person asks about their own policies and claims."""
