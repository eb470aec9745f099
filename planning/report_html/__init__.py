"""Plans as one HTML file: memory, stages, decisions and alternatives, drawn.

The modules import jinja2 and trace networks; import this package where a report is written.
"""
