"""One self-contained HTML page on runs and their evaluation.

gather  what there is on disk, what is missing and what is corrupt
plots   curves as inline SVG
markup  HTML that escapes all text
page    the page of what was gathered
"""
