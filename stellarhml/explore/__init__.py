"""A page in the browser that shows how lines move: sessions, views and callbacks on a Bokeh server."""
