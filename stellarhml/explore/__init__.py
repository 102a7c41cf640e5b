"""A page in the browser that shows how lines move: views and callbacks on a Bokeh server, no physics."""
