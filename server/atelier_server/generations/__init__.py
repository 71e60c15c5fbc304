"""The life of a generation as callers see it: submitted, followed, listed, cancelled."""
