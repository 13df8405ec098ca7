"""What the lead agent decides on labelled leads, beside what needs no agent."""
