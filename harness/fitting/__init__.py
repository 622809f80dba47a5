"""One stream of rows feeds many learners, which survive a crash."""
