"""The CPU picture server: onnxruntime, FastAPI and the tiler. Loads neither torch nor MLflow."""
