"""Steps of configs for any runtime: calibration, fine-tuning, exporting, and checks."""
