"""Our tools for other agents, by the Model Context Protocol: at `/mcp`, and over standard streams (`trellis mcp`)."""
