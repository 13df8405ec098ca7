"""From one phase to the next, and back, without losing a row. See docs/decisions/0034-promotion.md."""
