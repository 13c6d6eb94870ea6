"""The published comparison of empirical and full Bayes, on other tables: ``make study``."""
