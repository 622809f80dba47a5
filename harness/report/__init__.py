"""A suite's results as a page: opens from disk, asks no network, shows what was measured and what was not.

`sheets` are the tables on it, `latents` the cards beside it that a browser loads when they are opened, `page` puts all
together with `index.html`, `style.css` and `app.js` of this folder.
"""

from harness.report.page import write_report

__all__ = ["write_report"]
