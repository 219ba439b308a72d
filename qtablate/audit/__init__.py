"""The audit of gradient accumulation on a given model and data: measurement, records, tables and sentences."""
