"""MNER-QG: named entities by reading comprehension, with the queries grounded in the image."""
