"""What goes in: pictures, questions, and published suites."""
