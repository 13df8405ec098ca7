"""Grafana dashboards, and pictures of them."""
