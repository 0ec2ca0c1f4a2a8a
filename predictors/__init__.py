"""The predictors room."""
