"""Run records in, something a person reads out. No torch, no Lightning, no MLflow here."""
