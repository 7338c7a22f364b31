"""HTML pages: the report of an audit, the page of a frontier, the contact sheet, directions, generated suites."""
