"""Writes into the receipt what an engine tells of the fields of its task."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.struct_pb2 import Value

from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_DEFAULTED,
    DISPOSITION_EMULATED,
    Parameter,
    Receipt,
)
from atelier_engines.event import Note, Output, Reused
from atelier_engines.task import Task


def describe_notes(receipt: Receipt, notes: Iterable[Note], task: Task) -> None:
    """Add each note to the parameter of its field; a prompt, which receipts do not repeat, is added with it."""
    for note in notes:
        entry = _find_entry(receipt, note.field, task)
        told = [entry.explanation] if entry.explanation else []
        entry.explanation = "; ".join([*told, note.text])
        if note.emulated:
            entry.disposition = DISPOSITION_EMULATED


def describe_reuse(receipt: Receipt, output: Output, reused: Reused) -> None:
    """Say that a clip was made before and of what, and with which seed; so the recipe is that of the clip."""
    receipt.reuse.prompt, receipt.reuse.similarity = reused.prompt, reused.similarity
    receipt.recipe.seeds[:] = [output.seed]
    for entry in receipt.parameters:
        if entry.name == "seed" and entry.disposition == DISPOSITION_DEFAULTED:
            entry.value.string_value = str(output.seed)
            entry.explanation = "that of a clip that was made before: no seed was asked for"


def _find_entry(receipt: Receipt, field: str, task: Task) -> Parameter:
    for entry in receipt.parameters:
        if entry.name == field:
            return entry
    texts = {"prompt": task.prompt, "negative_prompt": task.negative_prompt}
    entry = receipt.parameters.add(name=field, disposition=DISPOSITION_APPLIED)
    if field in texts:
        entry.value.CopyFrom(Value(string_value=texts[field]))
        entry.requested.CopyFrom(entry.value)
    return entry
