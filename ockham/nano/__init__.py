"""The workshop: configuration, data, model, optimizer, anchor. Torch lives here alone."""
