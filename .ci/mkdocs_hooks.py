"""Show links that leave docs/ as text: the site has no sources, and in the repository they stay links."""

import re

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)]+)\)")


def on_page_markdown(markdown, page, **_):
    """Replace links to files outside of docs/, seen from the page's folder."""
    depth = page.file.src_uri.count("/")
    return LINK.sub(lambda match: match[1] if match[2].count("../") > depth else match[0], markdown)
