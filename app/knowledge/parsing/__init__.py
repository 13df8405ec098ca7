"""Uploaded files to Markdown, in a process of their own. This side imports no parser: see `parser.py`."""
