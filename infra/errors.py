"""What a person has to mend before anything is made."""


class InfraError(Exception):
    """One clear sentence that names the thing and what to do."""
