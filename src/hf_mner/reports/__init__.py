"""Reports for readers: one HTML file about one evaluated model."""

from hf_mner.reports.error_report import ErrorReport, Mistake, build_error_report, render_error_report
from hf_mner.reports.predictions import prediction_lines

__all__ = ["ErrorReport", "Mistake", "build_error_report", "prediction_lines", "render_error_report"]
