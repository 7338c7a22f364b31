"""Who says whether a reply refuses."""
