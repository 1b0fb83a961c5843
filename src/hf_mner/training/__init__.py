"""Recipes, the Trust-Your-Teacher trainer, and the procedures that train each system."""
