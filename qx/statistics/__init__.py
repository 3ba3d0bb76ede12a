"""Statistics that know no metric and no cell: arrays in, estimates with intervals out."""
