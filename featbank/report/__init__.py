"""The report: saved results of a comparison → one page, or figures for a paper."""

from featbank.report.build import build_report
from featbank.results.saved import believed

__all__ = ["believed", "build_report"]
