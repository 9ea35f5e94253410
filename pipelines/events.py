"""Names of the events that others wait for."""

#: A data set has changed, and is usable. Emitted by ``validate-data``.
DATA_VERSION_EVENT = "deblur.data.new-version"
#: Other pictures come than before. Emitted by the picture server, see ``deblur/serving/drift.py``.
DRIFT_EVENT = "deblur.input-drift"
