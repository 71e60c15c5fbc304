"""Has another Atelier server do the work: the one place among the engines that speaks its contract."""
