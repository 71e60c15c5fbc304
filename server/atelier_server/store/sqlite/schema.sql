-- One row a generation. `record` is an atelier.v1.Generation, `request` an atelier.v1.GenerateRequest.
CREATE TABLE IF NOT EXISTS generations (
    id         TEXT PRIMARY KEY,
    caller     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest     BLOB NOT NULL,
    engine     TEXT NOT NULL,
    state      INTEGER NOT NULL,
    attempt    INTEGER NOT NULL DEFAULT 0,
    fence      INTEGER NOT NULL DEFAULT 0, -- how often it was claimed; an older claim is void
    sequence   INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    remote_handle TEXT NOT NULL DEFAULT '', -- identifies the job at a remote service
    deadline   REAL,
    expires    REAL,
    request    BLOB NOT NULL,
    task       BLOB NOT NULL, -- the decided task; empty: accepted by a version that did not store it
    tenant     TEXT NOT NULL,
    trace_context TEXT NOT NULL, -- a JSON object
    record     BLOB NOT NULL,
    UNIQUE (caller, request_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS queue ON generations (engine, id) WHERE state = 1;
CREATE INDEX IF NOT EXISTS running ON generations (id) WHERE state = 2;
CREATE INDEX IF NOT EXISTS expiry ON generations (expires) WHERE expires IS NOT NULL;

-- The numbered log. `record` is an atelier.v1.StreamProgressResponse.
CREATE TABLE IF NOT EXISTS events (
    generation_id TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    sequence      INTEGER NOT NULL,
    record        BLOB NOT NULL,
    PRIMARY KEY (generation_id, sequence)
) WITHOUT ROWID;

-- Money spent on each engine between two midnights UTC.
CREATE TABLE IF NOT EXISTS spending (
    engine TEXT NOT NULL,
    day    TEXT NOT NULL DEFAULT (date('now')),
    amount REAL NOT NULL,
    PRIMARY KEY (engine, day)
) WITHOUT ROWID;

-- What is known of stored blobs. `record` is an atelier.v1.Artifact.
CREATE TABLE IF NOT EXISTS artifacts (
    id      TEXT PRIMARY KEY,
    caller  TEXT NOT NULL,
    expires REAL NOT NULL,
    record  BLOB NOT NULL
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS artifact_expiry ON artifacts (expires);

-- Which blobs a generation needs: these are kept as long as it is.
CREATE TABLE IF NOT EXISTS inputs (
    generation_id TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    artifact_id   TEXT NOT NULL,
    PRIMARY KEY (artifact_id, generation_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS inputs_of ON inputs (generation_id);
