"""Results: data only, with labels; what every result can do stands in base, every status in status."""
