"""The stages of the platform: plain functions, the same on a laptop, under Prefect and Kubeflow.

Each takes paths and plain values and returns a frozen dataclass of JSON-able values. Stages know
``deblur``; ``deblur`` does not know them, and they do not know what runs them.
"""
