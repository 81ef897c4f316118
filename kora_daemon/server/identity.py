"""Who a connection belongs to, and what becomes of it when that changes (auth.md section 5)."""

from __future__ import annotations

from typing import Final

from kora_daemon.apply.authority import VISITOR, Authority, NodeBinding
from kora_daemon.auth.contract import ANEW, AuthContext, Standing
from kora_daemon.auth.scope_maps import same_scopes
from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol import events as on

TOLERATED_FOR_S: Final = 60.0
"""For a session whose token had expired when it was shown, and was within the provider's tolerance. Less, and a device
that has no other token yet would connect and be closed again and again."""

COME_AGAIN: Final = "please connect again"


class Identity:
    """The context of a connection, as it was judged last, at `judged_at` on trio's clock."""

    def __init__(self, context: AuthContext, judged_at: float, wall_s: float) -> None:
        self.context = context
        self.judged_at = judged_at
        self.ends_at = _end(context, wall_s)
        """When its token has expired, in seconds since the epoch; None = never."""

    def authority(self, node_id: str, scopes: ScopeMap | None, binding: NodeBinding, *, handover: bool) -> Authority:
        """In whose name it uploads as this node within these scopes, which may be narrower than those it was given."""
        claimant = VISITOR if self.context.is_visitor else self.context.user_id
        return Authority(node_id, scopes, claimant, self.context.device_id, binding, handover)

    def change(self, standing: Standing, wall_s: float) -> on.Revoked | on.Renewal | None:
        """Take what a re-check has found; what the session has to be told, None when it stays."""
        if standing is None:
            return on.Revoked()
        if standing is ANEW or standing.user_id != self.context.user_id:
            return on.Renewal(COME_AGAIN)
        if not same_scopes(standing.scopes, self.context.scopes):
            return on.Renewal(f"what you may see has changed, {COME_AGAIN}")
        if standing.expires_at != self.context.expires_at:
            self.ends_at = _end(standing, wall_s)
        self.context = standing
        return None


def _end(context: AuthContext, wall_s: float) -> float | None:
    expires_at = context.expires_at
    return wall_s + TOLERATED_FOR_S if expires_at is not None and expires_at <= wall_s else expires_at
