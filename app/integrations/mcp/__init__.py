"""Other programs' tools by the Model Context Protocol: which servers, how they are reached, what may come back.

`client` alone knows the library, which costs 16 MB and most of a second: it is imported where a server is reached.
"""
