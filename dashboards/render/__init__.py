"""Draws a Grafana dashboard from a live Prometheus, without Grafana: `python -m dashboards.render --help`."""
