"""What goes wrong with a house."""


class HouseError(RuntimeError):
    """A house cannot be started here, or does not answer. The message is a sentence; where a program is missing, it
    says what is not measured then."""
