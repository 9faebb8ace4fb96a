"""The report: saved results of a comparison → one page, or figures for a paper."""

from featbank.report.build import build_report, draw_figures, refuse_figures

__all__ = ["build_report", "draw_figures", "refuse_figures"]
