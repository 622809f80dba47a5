"""A suite's results as a page: opens from disk, asks no network, shows what was measured and what was not.

`sheets` are the tables on it, `latents` the cards beside it that a browser loads when they are opened, `page` puts all
together with `index.html`, `style.css` and `app.js` of this folder. What a report was made from is
remembered: `current` says whether anything has changed since, `earlier` takes over the parts of which nothing has.
"""
