"""The app in android/, filled with exported models."""
