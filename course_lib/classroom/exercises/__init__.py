"""What the exercises of each chapter must do: one module a chapter."""
