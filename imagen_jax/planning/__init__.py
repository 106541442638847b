"""What a stage needs on a TPU slice, known before one is rented.

`estimate` works it out from shapes alone; `compiling` asks libtpu's compiler, which
needs no TPU, for the very program that training jits; `report` puts both into words.
"""
