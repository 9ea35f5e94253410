"""The report of an evaluation: figures with their intervals, plots, pictures, and all as JSON."""

from deblur.report.evaluation import EvaluationReport, Figure, Source, evaluate_and_report

__all__ = ["EvaluationReport", "Figure", "Source", "evaluate_and_report"]
