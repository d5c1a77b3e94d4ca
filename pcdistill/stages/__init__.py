"""The stages: read artefacts, call the mathematics, write artefacts."""
