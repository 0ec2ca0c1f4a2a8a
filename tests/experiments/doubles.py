"""What tests of pictures share: published spaces made once, sections by name, texts of an SVG."""

import functools
import html
import re
import xml.etree.ElementTree as ElementTree

from experiments.sections import sections
from search_spaces.standard import standard_space

standard = functools.cache(standard_space)
"""A published space; some take seconds to make."""


def named(space, row=None):
    """The sections of an architecture, of the largest unless given, by name."""
    graph = space.graph(space.extremes("largest")[0] if row is None else row)
    return {section.name: section for section in sections(graph)}


def texts(path):
    """Every line of text in an SVG; text drawn as outlines stands in comments."""
    content = path.read_text()
    ElementTree.fromstring(content)
    found = re.findall(r"<!--(.*?)-->", content, re.DOTALL)
    return [html.unescape(text.strip()) for text in found]
