"""What a model has to keep before it is promoted: figures with bounds, and the decision."""
