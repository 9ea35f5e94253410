"""The whole platform on one machine: its servers as child processes, watched and stopped together.

Needs the extra ``pipelines``; Prefect and MLflow are run, never imported.
"""
