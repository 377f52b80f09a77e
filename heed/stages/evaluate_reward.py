"""A reward model on held-out comparisons: accuracy with intervals, calibration, biases."""

from __future__ import annotations
