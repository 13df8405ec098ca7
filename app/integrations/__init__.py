"""CRM, calendar and mail: a protocol each, an embedded default to look at, and the vendors' real clients."""
