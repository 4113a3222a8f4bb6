"""Readers and writers, one module per format. Readers raise UserError on bad input."""
