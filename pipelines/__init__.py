"""What runs the stages: Prefect flows and the demo. Only wiring of ``components``."""
