"""The exported file: export, parity, calibration, quantization."""
