"""The map as a chart of ECharts, which NiceGUI includes."""

from collections.abc import Sequence
from typing import Any

from face_lightning.app.entity_map import EntityMap


def map_options(found: EntityMap, labels: Sequence[str]) -> dict[str, Any]:
    """Options of the chart; its tooltips are rendered as text, never as HTML.

    Args:
        found: Positions of items and words.
        labels: Labels of the items shown `(N,)`.
    """
    axis = {"show": False, "scale": True}
    items = [{"value": place, "name": label} for place, label in zip(found.places.tolist(), labels, strict=True)]
    words = [
        {"value": place, "name": word} for place, word in zip(found.word_places.tolist(), found.words, strict=True)
    ]
    label = {"show": True, "formatter": "{b}", "color": "#c2571a", "fontSize": 13, "fontWeight": "bold"}
    narrow = {"query": {"maxWidth": 600}, "option": {"series": [{"symbolSize": 4}, {"label": {"fontSize": 10}}]}}
    chart = {
        "animation": False,
        "grid": {"left": 10, "right": 10, "top": 10, "bottom": 10},
        "xAxis": axis,
        "yAxis": axis,
        "tooltip": {"renderMode": "richText", "formatter": "{b}", "confine": True},
        "dataZoom": [{"type": "inside", "xAxisIndex": 0}, {"type": "inside", "yAxisIndex": 0}],
        "series": [
            {"type": "scatter", "data": items, "symbolSize": 6, "itemStyle": {"color": "#3b82f6", "opacity": 0.55}},
            {
                "type": "scatter",
                "data": words,
                "symbolSize": 1,
                "label": label,
                "labelLayout": {"hideOverlap": True},
                "silent": True,
            },
        ],
    }
    return {"baseOption": chart, "media": [narrow, {"option": {"series": [{"symbolSize": 6}, {"label": label}]}}]}
