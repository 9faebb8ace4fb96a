"""The report: saved results of a comparison → one page, or figures for a paper."""

from cli._report.build import build_report

__all__ = ["build_report"]
