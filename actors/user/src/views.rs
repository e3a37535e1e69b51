//! The read model: tables that are written in the transaction of the events that change them.

/// The users that have the administrator's role, disabled ones among them, through the index `users_administrators`: at most
/// `?1` rows are looked at, however many users there are. SQLite can use the index because this repeats its condition.
pub const ADMINISTRATORS: &str = "SELECT doc FROM users INDEXED BY users_administrators WHERE user_id > '' \
                                  AND instr(json_extract(doc, '$.roles'), '\"admin\"') > 0 ORDER BY user_id LIMIT ?1";

/// Of users. `doc` is a [`crate::Profile`] as JSON. Times are in milliseconds since the Unix epoch.
pub const USER_TABLES: &str = "
CREATE TABLE IF NOT EXISTS users (
    user_id       TEXT    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    doc           TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    version       INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS users_administrators ON users (user_id)
    WHERE instr(json_extract(doc, '$.roles'), '\"admin\"') > 0;
";

/// Of sessions.
pub const SESSION_TABLES: &str = "
CREATE TABLE IF NOT EXISTS sessions (
    session_id     TEXT    NOT NULL PRIMARY KEY,
    user_id        TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    refreshed_at   INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    revoked_at     INTEGER,
    revoked_reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX IF NOT EXISTS sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
";
