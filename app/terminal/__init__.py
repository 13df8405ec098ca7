"""`trellis chat`: a person at a terminal talks to an assistant over the API."""
