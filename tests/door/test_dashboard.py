"""deploy/grafana/tessera.json asks for nothing that a box does not tell: metrics and labels are those of /metrics."""

import json
import os
import re
import unittest

from box import SOURCE, Box

with open(os.path.join(SOURCE, "deploy", "grafana", "tessera.json")) as file:
    DASHBOARD = json.load(file)
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def metrics_of(text):
    """{name: set of its labels}; histograms under the names of their series."""
    found = {}
    for name, labels in re.findall(r"^(tessera:\w+)(?:\{(.*)\})? \S+$", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


class Dashboard(unittest.TestCase):
    def test_metrics_and_labels(self):
        with Box() as box:
            metrics = metrics_of(box.get("/metrics")[1])
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                name, label = re.fullmatch(r"label_values\((tessera:\w+), (\w+)\)", variable["definition"]).groups()
                self.assertIn(label, metrics[name] | {"instance"}, variable["definition"])
        self.assertGreater(len(EXPRESSIONS), 40)
        for expression in EXPRESSIONS:
            used = re.findall(r"(tessera:\w+)(?:\{([^}]*)\})", expression)
            self.assertEqual(len(used), expression.count("tessera:"), expression)
            known = {"instance"}  # Prometheus adds it
            for name, matchers in used:
                self.assertIn(name, metrics, expression)
                known |= metrics[name]
                self.assertLessEqual(set(re.findall(r"(\w+)=", matchers)), known, expression)
            for labels in re.findall(r"by \(([^)]*)\)", expression):
                self.assertLessEqual(set(labels.split(", ")), known, expression)

    def test_panels(self):
        ids = [panel["id"] for panel in PANELS]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in PANELS:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells
            if panel["type"] != "row":
                self.assertTrue(panel["description"] and panel["targets"], panel["title"])
                self.assertEqual({target["datasource"]["uid"] for target in panel["targets"]}, {"${datasource}"})


if __name__ == "__main__":
    unittest.main()
