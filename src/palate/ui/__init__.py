"""`palate ui`: one local site over the store and the folders of runs.

It never imports torch: what needs a model runs as a process of the command line, so that no page
can take a run down, or be taken down by one.
"""
