"""Measures what the documentation says about speed; README.md is the contract.

``__main__``    the command line: which groups, which photographs, where the figures go
``cases``       what is measured, one file per group
``comparison``  what a case is: contenders, size, cost, error; and how it is measured
``costs``       the bytes and operations that a task needs at least
``exact``       exact sums at some of the nodes, to compare with
``inputs``      photographs, a volume, video frames, and seeded inputs
``peers``       other packages, each with the reason where it is not there
``machine``     what the figures were measured on
``peaks``       copy speed and multiply-add rate of this machine
``results``     the JSON file and its schema
``tables``      the same as text and Markdown
``claims``      published claims beside what is measured here
``accuracy``    accuracy of settings on network scores (``accuracy_conv``: of ConvCRF)
"""
