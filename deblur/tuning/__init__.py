"""Tuning: which way of running a model is fastest on this machine without a loss that counts."""
