"""Requests in an API that the upstream speaks itself: sent as they are, and their replies judged event by event."""
