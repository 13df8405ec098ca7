"""Prometheus and Alertmanager beside the server of `trellis up`, with the phase's rules."""

from app.beside.starting import Beside, Line, ended, prometheus_address, start

__all__ = ["Beside", "Line", "ended", "prometheus_address", "start"]
