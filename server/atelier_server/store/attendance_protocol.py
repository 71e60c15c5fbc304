"""Which servers have calls that wait for a generation, so that none cancels it while another one's caller waits."""

from __future__ import annotations

from typing import Protocol


class Attendance(Protocol):
    """The part of a store by which servers know of each other's callers. Calls count as long as their server lives.

    The server that has accepted a generation attends it without saying so.
    """

    @property
    def is_shared(self) -> bool:
        """Whether there may be other servers."""

    async def attend(self, generation_id: str, *, started: bool, again: bool = False) -> bool:
        """Note that a call of this server waits for the generation, or follows it.

        Args:
            generation_id: the generation.
            started: whether losing the call may cancel it.
            again: whether this server has accepted it again.

        Returns:
            False if it has ended, or is being cancelled because nobody wanted it.
        """

    async def leave(self, generation_id: str) -> bool:
        """Note that this server has no such call left; whether losing the last one may cancel the generation."""

    async def cancel_abandoned(
        self, caller: str, generation_id: str, *, any_call: bool, still_followed: bool
    ) -> bool:
        """Cancel a generation that no call of this server wants; False, and nothing happens, if another server has one.

        Args:
            caller: the caller that owns it.
            generation_id: the generation.
            any_call: whether calls that only follow it count as well, and take it over: the last of all decides then.
            still_followed: whether calls of this server follow it.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
