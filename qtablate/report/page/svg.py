"""SVG files of plots as a part of a page: with its colors, with identifiers of their own, and nothing but shapes and text.

The files lie in the results folder, which may be someone else's, so they are checked as any data.
"""

import re
from xml.etree import ElementTree

from qtablate.errors import StoreError
from qtablate.report.plots.style import GRID, INK

_ELEMENTS = {
    *("svg", "g", "defs", "use", "path", "text", "tspan", "rect", "circle", "line", "polygon", "polyline", "image"),
    *("clipPath", "linearGradient", "stop", "style", "metadata"),
}
_STYLE = "*{stroke-linejoin: round; stroke-linecap: butt}"
"""The one style sheet that matplotlib writes: any other would be the whole page's."""


def inline_svg(svg: str, name: str) -> str:
    """Return an SVG for the middle of a page; identifiers that nothing in it refers to are left out.

    Args:
        svg: as matplotlib writes it.
        name: of the plot, which no other plot of the page has.

    Raises:
        StoreError: it holds something that matplotlib does not write.
    """
    text = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.find("<svg") :], flags=re.DOTALL)
    _validate(text, name)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--line)")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)


def _validate(text: str, name: str) -> None:
    try:
        root = ElementTree.fromstring(text)  # of one element, with nothing behind it
    except ElementTree.ParseError as error:
        raise _refused(name, str(error)) from None
    for element in root.iter():
        tag = str(element.tag).rpartition("}")[2]
        if tag not in _ELEMENTS:
            raise _refused(name, f"an element <{tag}>")
        if tag == "style" and (element.text or "").strip() != _STYLE:
            raise _refused(name, "a style sheet of its own")
        for attribute, value in element.attrib.items():
            word = attribute.rpartition("}")[2]
            link = word == "href" and not value.startswith(("#", "data:image/png;base64,"))
            if word.startswith("on") or link or "url(" in value.replace("url(#", ""):
                raise _refused(name, f"an attribute {word}")


def _refused(name: str, what: str) -> StoreError:
    return StoreError(
        f"plots/{name}.svg holds {what}, which no plot of qtablate has: delete the folder plots/, it is drawn again"
    )
