"""Prediction: the same answers from every engine, without torch where OpenVINO can be had."""
