"""The report: saved results of a comparison → one page, or figures for a paper."""

from featbank.report.build import build_report, draw_figures, refuse_figures
from featbank.report.gallery import refuse_images

__all__ = ["build_report", "draw_figures", "refuse_figures", "refuse_images"]
