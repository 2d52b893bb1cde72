"""Recipes: settings become data, a pair and a loss; folders of runs are written, resumed and loaded back."""
