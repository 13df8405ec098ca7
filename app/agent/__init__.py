"""The run loop: models and routing, tools and approvals, prompts, answer cache, budgets, resilience."""
