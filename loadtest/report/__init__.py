"""The report of a run of the gate: JUnit, JSON, pictures, and one HTML page that holds everything."""

from loadtest.report.report import report
from loadtest.report.words import sentence

__all__ = ["report", "sentence"]
