"""Adapt pages that are written for the repository to the site."""

import re

from markdown import Extension

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)]+)\)")


class NoRawHtml(Extension):
    """Show <name> in pages and docstrings as it is written, not as an HTML tag."""

    def extendMarkdown(self, md):
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")


def on_config(config):
    config.markdown_extensions.append(NoRawHtml())


def on_page_markdown(markdown, page, **_):
    """Replace links to files outside of docs/, which the site does not have, by their text."""
    depth = page.file.src_uri.count("/")
    return LINK.sub(lambda match: match[1] if match[2].count("../") > depth else match[0], markdown)
