"""The ledger's tables, version by version.

Owns their shape only.
"""

from __future__ import annotations

# Each entry brings the file one version further; PRAGMA user_version counts them. Never change one that was released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE ticks (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            mode TEXT NOT NULL,
            digest TEXT NOT NULL,
            settled INTEGER NOT NULL DEFAULT 0,
            containers INTEGER NOT NULL DEFAULT 0,
            running INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE spells (
            container TEXT NOT NULL,
            rule TEXT NOT NULL,
            started_at TEXT,
            since TEXT NOT NULL,
            seen TEXT NOT NULL,
            warned_at TEXT,
            warned_mode TEXT,
            delivered INTEGER NOT NULL DEFAULT 0,
            kept_since TEXT,
            PRIMARY KEY (container, rule)
        ) WITHOUT ROWID""",
        """CREATE TABLE kinds (
            container TEXT NOT NULL,
            rule TEXT NOT NULL,
            kind TEXT NOT NULL,
            PRIMARY KEY (container, rule)
        ) WITHOUT ROWID""",
        "CREATE TABLE breaker (since TEXT NOT NULL)",
        """CREATE TABLE actions (
            id INTEGER PRIMARY KEY,
            decision TEXT NOT NULL,
            container TEXT NOT NULL,
            name TEXT NOT NULL,
            started_at TEXT,
            rule TEXT NOT NULL,
            action TEXT NOT NULL,
            mode TEXT NOT NULL,
            intent_at TEXT NOT NULL,
            status TEXT,
            detail TEXT NOT NULL DEFAULT '',
            delivered INTEGER,
            outcome_at TEXT
        )""",
        "CREATE INDEX actions_unfinished ON actions (id) WHERE status IS NULL",
        """CREATE TABLE inventory (
            container TEXT NOT NULL,
            started_at TEXT NOT NULL,
            name TEXT NOT NULL,
            image TEXT NOT NULL,
            owner TEXT NOT NULL,
            owner_via TEXT NOT NULL,
            owner_group TEXT NOT NULL,
            type TEXT NOT NULL,
            gpus TEXT NOT NULL,
            gpus_via TEXT NOT NULL,
            gpus_unclear TEXT NOT NULL,
            running_since TEXT NOT NULL,
            first_seen TEXT NOT NULL,
            last_seen TEXT NOT NULL,
            ended_at TEXT,
            PRIMARY KEY (container, started_at)
        ) WITHOUT ROWID""",
        "CREATE INDEX inventory_open ON inventory (container) WHERE ended_at IS NULL",
        "CREATE INDEX inventory_seen ON inventory (last_seen)",
    ),
    (
        "CREATE TABLE samples (at REAL PRIMARY KEY, packed BLOB NOT NULL)",
        """CREATE TABLE series (
            number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, seen REAL NOT NULL, UNIQUE (kind, key)
        )""",
    ),
    (
        """CREATE TABLE partitions (
            uuid TEXT NOT NULL,
            gpu_instance INTEGER NOT NULL,
            devices TEXT NOT NULL,
            since TEXT,
            seen TEXT NOT NULL,
            PRIMARY KEY (uuid, gpu_instance)
        ) WITHOUT ROWID""",
    ),
    (  # who is at the epilog of which life and what came of it; unfit GPUs; times that have no row of their own
        """CREATE TABLE epilogs (
            container TEXT NOT NULL,
            started_at TEXT NOT NULL,
            holder TEXT NOT NULL,
            claimed_at TEXT NOT NULL,
            tries INTEGER NOT NULL,
            hands INTEGER NOT NULL,
            status TEXT,
            detail TEXT NOT NULL DEFAULT '',
            finished_at TEXT,
            PRIMARY KEY (container, started_at)
        ) WITHOUT ROWID""",
        """CREATE TABLE unfit (
            id INTEGER PRIMARY KEY,
            gpu TEXT NOT NULL,
            since TEXT NOT NULL,
            why TEXT NOT NULL,
            fit_at TEXT,
            how TEXT
        )""",
        "CREATE UNIQUE INDEX unfit_now ON unfit (gpu) WHERE fit_at IS NULL",
        "CREATE TABLE moments (what TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID",
    ),
    (  # stretches of ticks in which a rule found the same, and what they are looked up by
        """CREATE TABLE verdicts (
            container TEXT NOT NULL,
            rule TEXT NOT NULL,
            since TEXT NOT NULL,
            seen TEXT NOT NULL,
            started_at TEXT,
            kind TEXT NOT NULL,
            held_by TEXT NOT NULL,
            name TEXT NOT NULL,
            owner TEXT NOT NULL,
            why TEXT NOT NULL,
            PRIMARY KEY (container, rule, since)
        ) WITHOUT ROWID""",
        "CREATE INDEX verdicts_seen ON verdicts (seen)",
        "CREATE INDEX verdicts_name ON verdicts (name)",
        "CREATE INDEX inventory_name ON inventory (name)",
    ),
    (  # whose container an action was about and which GPUs it held; stops, what came after them, and the sums of both
        "ALTER TABLE actions ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE actions ADD COLUMN gpus TEXT NOT NULL DEFAULT '[]'",
        """CREATE TABLE stops (
            id INTEGER PRIMARY KEY,
            container TEXT NOT NULL,
            name TEXT NOT NULL,
            owner TEXT NOT NULL,
            rule TEXT NOT NULL,
            started_at TEXT,
            looked_at TEXT NOT NULL,
            at TEXT NOT NULL,
            counted_until TEXT NOT NULL,
            gpus TEXT NOT NULL,
            gpu_seconds REAL NOT NULL DEFAULT 0,
            regretted INTEGER NOT NULL DEFAULT 0,
            over INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX stops_open ON stops (id) WHERE NOT over",
        """CREATE TABLE totals (
            rule TEXT PRIMARY KEY,
            stops INTEGER NOT NULL DEFAULT 0,
            regrets INTEGER NOT NULL DEFAULT 0,
            gpu_seconds REAL NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
    ),
    (  # what a warning said: not before then
        "ALTER TABLE spells ADD COLUMN promised_at TEXT",
    ),
)
