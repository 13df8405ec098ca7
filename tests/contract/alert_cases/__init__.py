"""What each alert must say, and when: one module for each topic or two, its cases in `CASES`."""
