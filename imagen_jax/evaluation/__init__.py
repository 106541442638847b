"""How good the pictures are: scores, intervals, reports and captioned grids.

Files:
  emoji_score.py: which OpenMoji concept on which ground a picture shows.
  prompt_score.py: pictures against their prompts, shuffled prompts and real pictures.
  super_resolution.py: PSNR and the three figures of a super-resolution stage.
  intervals.py: 95 % intervals for shares and means.
  samples.py: the folder of scored pictures (manifest.jsonl) and the other inputs.
  quickstart.py: the quickstart's report.json.
  sr_report.py: the report of any super-resolution stage.
  folder_report.py: the report of a run on one's own pictures.
  reference.py: the band of earlier runs that a report is compared with.
  grid.py: captioned sample sheets as PNG.
"""
