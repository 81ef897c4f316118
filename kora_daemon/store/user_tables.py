"""The user tables of `@korajs/auth`, as its stores create them (auth.md section 3): what is looked for at a start."""

COLUMNS = {
    "auth_users": ("id", "email", "name", "email_verified", "created_at", "password_hash", "salt"),
    "auth_devices": ("id", "user_id", "public_key", "name", "revoked", "created_at", "last_seen_at"),
}
