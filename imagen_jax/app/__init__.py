"""A page and a REST endpoint that draw with one cascade.

  requests     what a visitor asks for, checked
  jobs         one queue with a limit, one worker
  studio       a request through the pipeline, to PNG files with their recipes
  rest         POST /api/pictures, GET /api/model, GET /api/health
  events       what a visitor sees while a request is drawn
  visit        what the page's controls ask for, and what it keeps
  page         the page
  guard        the size of requests, and what a page may load
  serving      all of it behind one socket

The page and the endpoint share the queue: the model is one. `python -m imagen_jax.app`
starts it; docs/app.md describes the JSON.
"""
