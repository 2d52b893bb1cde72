"""Recipes of the scripts: data, model, guide and loss from settings; folders of runs."""
