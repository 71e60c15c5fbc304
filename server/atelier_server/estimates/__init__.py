"""How long work will take, learnt from the work that is done."""
