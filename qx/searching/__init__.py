"""Find the recipe that meets constraints and is best by one quantity, by racing many candidates."""
