"""The stages as a Kubeflow pipeline: wiring, what the cluster gives them, and a client.

``python -m pipelines.kubeflow`` compiles, runs and schedules it, see ``docs/kubeflow.md``.
"""
