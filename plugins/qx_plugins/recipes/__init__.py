"""What configs share whatever the runtime: calibration, fine-tuning, exporting, and checks."""
