"""How each part of a stack is reckoned."""
