"""Everything that only a device can tell, brought back by one command: ``make gpu``.

    python -m experiments.gpu [--stage NAME[,NAME]] [--minutes N] [-o DIR]

Each stage is a file of this package and writes one file into DIR; none takes more than eight
minutes on an H200, each goes on where it was interrupted, and a row that fails is written with its
reason while the rest goes on. ``python -m experiments.gpu.results FROM TO`` draws what came back.
"""
