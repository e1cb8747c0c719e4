"""Where a run is followed while it lasts: its folder, its curves, MLflow. The only mlflow."""
