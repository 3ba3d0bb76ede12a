"""Write ``report.html``: one page with plots and tables that opens from a disk, without a network."""
