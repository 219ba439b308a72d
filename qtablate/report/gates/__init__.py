"""Gates on a results folder that CI can trust (`qtablate check`)."""
