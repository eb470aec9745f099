"""The fingerprint as one HTML file: pictures, drawings and tables; and what other reports build on.

The modules import jinja2, imagecodecs and the readers; import this package where a report is written.
"""
