"""The contract between qx and its plugins: hooks, the records that plugins write, and the checks of both."""
