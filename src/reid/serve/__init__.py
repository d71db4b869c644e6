"""A gallery as a service: HTTP with a described interface, and a web page, for people and programs.

`app.build` makes the application, `running.serve` runs it. Only this room imports FastAPI.
"""
