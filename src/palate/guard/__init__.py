"""A classifier that stands before and after generation: trained, calibrated, measured, asked."""
