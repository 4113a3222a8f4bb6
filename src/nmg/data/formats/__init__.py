"""Readers and writers, one module a format. Readers raise UserError on bad input."""
