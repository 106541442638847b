"""Studies with people: which picture looks more real, does the caption fit it.

The protocol is the paper's (arXiv:2205.11487, section 3, appendices C and E). A study
is a folder with `study.toml`, `prompts.csv` and the pictures of two systems; its
answers are kept in that folder, in `answers.sqlite`.

Files:
  settings.py: study.toml, every setting with its meaning and default.
  prompts.py: CSV files, strictly.
  study.py: the prompts and pictures of a study, read and checked.
  controls.py: trials whose right answer is known, read and made.
  pictures.py: pictures as raters get them: checked, and without metadata.
  frozen.py: what must not change while raters are at work.
  plan.py: which trials a rater sees, in which order and on which side.
  store.py: raters and answers in SQLite, safe against a kill.
  recorded.py: what a store holds, read back for a report.
  limits.py: how often one rater, and one guesser of links, may ask.
  pages.py: the pages, from templates/ and static/.
  server.py: the web application.
  serving.py: from a folder to a running server.
  estimates.py: means with bootstrap intervals, and agreement between raters.
  judgements.py: answers as numbers; which raters count, and why others do not.
  tables.py: the tables of a report and its CSV files.
  plot.py: the same figures as bars.
  __main__.py: the command.
"""
