"""AMAE: unsupervised anomaly detection in chest radiographs."""

__version__ = "0.1.0"
