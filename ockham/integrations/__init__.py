"""Integrations with other training libraries and with OpenTelemetry. Each module requires an extra."""
