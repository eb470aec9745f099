"""How a folder becomes cases, one file a layout."""
