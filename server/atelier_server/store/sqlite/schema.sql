-- The newest version of the schema, for new files; migrations.py brings older files to it.
-- One row a generation. `record` is an atelier.v1.Generation, `request` an atelier.v1.GenerateRequest.
CREATE TABLE generations (
    id               TEXT PRIMARY KEY,
    caller           TEXT NOT NULL,
    request_id       TEXT NOT NULL,
    digest           BLOB NOT NULL,
    engine           TEXT NOT NULL,
    state            INTEGER NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER NOT NULL DEFAULT 0, -- how often it was claimed; claims with a lower number are void
    sequence         INTEGER NOT NULL DEFAULT 0, -- number of its last event
    cancel_requested INTEGER NOT NULL DEFAULT 0, -- why it is to be cancelled, an atelier.v1.CancelCause
    remote_handle    TEXT NOT NULL DEFAULT '', -- identifies the job that a remote service has accepted
    deadline         REAL,
    expires          REAL,
    request          BLOB NOT NULL,
    record           BLOB NOT NULL,
    task             BLOB NOT NULL DEFAULT x'', -- the decided task; empty until the first claim of an older file's row
    tenant           TEXT NOT NULL DEFAULT '',
    trace_context    TEXT NOT NULL DEFAULT '{}', -- a JSON object of header names and values
    subject          TEXT NOT NULL DEFAULT '', -- who of the tenant asked for it
    cost             REAL NOT NULL DEFAULT 1, -- in cost units, see estimates/cost_units.py
    weight           REAL NOT NULL DEFAULT 1, -- of its tenant when it was accepted
    batch            INTEGER NOT NULL DEFAULT 0, -- 1: others of its tenant go first, see waiting.py
    UNIQUE (caller, request_id)
) WITHOUT ROWID;

CREATE INDEX owner ON generations (caller, id);
CREATE INDEX listed ON generations (caller, engine, state, id);
CREATE INDEX attempted ON generations (id) WHERE state = 1 AND attempt > 0;
CREATE INDEX queue ON generations (engine, id) WHERE state = 1;
CREATE INDEX queue_of_tenant ON generations (engine, caller, batch, id) WHERE state = 1;
CREATE INDEX due ON generations (deadline) WHERE state = 1 AND deadline IS NOT NULL;
CREATE INDEX running ON generations (id) WHERE state = 2;
CREATE INDEX expiry ON generations (expires) WHERE expires IS NOT NULL;

-- How many generations wait for each engine; the triggers keep it, so that nothing counts a queue.
CREATE TABLE queues (
    engine       TEXT PRIMARY KEY,
    waiting      INTEGER NOT NULL,
    virtual_time REAL NOT NULL DEFAULT 0 -- the greatest `served` with which a tenant was claimed from, see shares.py
) WITHOUT ROWID;

-- What each tenant has waiting for each engine, and what it was given; kept by the triggers, see shares.py.
CREATE TABLE shares (
    tenant  TEXT NOT NULL,
    engine  TEXT NOT NULL,
    waiting INTEGER NOT NULL DEFAULT 0, -- generations
    cost    REAL NOT NULL DEFAULT 0, -- cost units of these
    load    REAL NOT NULL DEFAULT 0, -- the same, each divided by its weight
    served  REAL NOT NULL DEFAULT 0, -- cost units that were claimed, by weight; the least is next
    day     TEXT NOT NULL DEFAULT '', -- the last one, in UTC, on which something was claimed or paid
    used    REAL NOT NULL DEFAULT 0, -- cost units that were claimed on that day
    spent   REAL NOT NULL DEFAULT 0, -- money of that day
    overtaken REAL NOT NULL DEFAULT 0, -- cost units claimed before a batch one that waits, since the last one
    PRIMARY KEY (tenant, engine)
) WITHOUT ROWID;

CREATE INDEX next_share ON shares (engine, served, tenant) WHERE waiting > 0;

CREATE TRIGGER queue_entered_new AFTER INSERT ON generations WHEN new.state = 1 BEGIN
    INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
    INSERT INTO shares (tenant, engine, waiting, cost, load, served)
    SELECT new.caller, new.engine, 1, new.cost, new.cost / new.weight, virtual_time
    FROM queues WHERE engine = new.engine
    ON CONFLICT DO UPDATE SET waiting = waiting + 1, cost = cost + excluded.cost, load = load + excluded.load,
        served = iif(waiting > 0, served, max(served, excluded.served));
END;

CREATE TRIGGER queue_entered AFTER UPDATE OF state, engine ON generations
WHEN new.state = 1 AND (old.state <> 1 OR old.engine <> new.engine) BEGIN
    INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
    INSERT INTO shares (tenant, engine, waiting, cost, load, served)
    SELECT new.caller, new.engine, 1, new.cost, new.cost / new.weight, virtual_time
    FROM queues WHERE engine = new.engine
    ON CONFLICT DO UPDATE SET waiting = waiting + 1, cost = cost + excluded.cost, load = load + excluded.load,
        served = iif(waiting > 0, served, max(served, excluded.served));
    UPDATE shares SET served = served - new.cost / new.weight,
        used = iif(day = date('now'), max(0, used - new.cost), used)
    WHERE tenant = new.caller AND engine = new.engine AND old.state = 2 AND old.engine = new.engine;
END;

CREATE TRIGGER queue_left AFTER UPDATE OF state, engine ON generations
WHEN old.state = 1 AND (new.state <> 1 OR old.engine <> new.engine) BEGIN
    UPDATE queues SET waiting = waiting - 1, virtual_time = iif(new.state = 2, max(virtual_time,
        (SELECT served FROM shares WHERE tenant = old.caller AND engine = old.engine)), virtual_time)
    WHERE engine = old.engine;
    UPDATE shares SET waiting = waiting - 1, cost = iif(waiting > 1, cost - old.cost, 0),
        load = iif(waiting > 1, load - old.cost / old.weight, 0),
        served = served + iif(new.state = 2, old.cost / old.weight, 0),
        used = iif(day = date('now'), used, 0) + iif(new.state = 2, old.cost, 0),
        spent = iif(day = date('now'), spent, 0), day = date('now'),
        overtaken = CASE WHEN new.state <> 2 THEN overtaken WHEN old.batch = 0 AND EXISTS (
            SELECT 1 FROM generations WHERE state = 1 AND engine = old.engine AND caller = old.caller AND batch = 1)
            THEN overtaken + old.cost ELSE 0 END
    WHERE tenant = old.caller AND engine = old.engine;
END;

CREATE TRIGGER queue_left_deleted AFTER DELETE ON generations WHEN old.state = 1 BEGIN
    UPDATE queues SET waiting = waiting - 1 WHERE engine = old.engine;
    UPDATE shares SET waiting = waiting - 1, cost = iif(waiting > 1, cost - old.cost, 0),
        load = iif(waiting > 1, load - old.cost / old.weight, 0)
    WHERE tenant = old.caller AND engine = old.engine;
END;

CREATE TRIGGER claimed_new AFTER INSERT ON generations WHEN new.state = 2 BEGIN
    INSERT INTO queues (engine, waiting) VALUES (new.engine, 0) ON CONFLICT DO UPDATE SET virtual_time =
        max(virtual_time, coalesce(
            (SELECT served FROM shares WHERE tenant = new.caller AND engine = new.engine), 0));
    INSERT INTO shares (tenant, engine, served, used, day)
    SELECT new.caller, new.engine, virtual_time + new.cost / new.weight, new.cost, date('now')
    FROM queues WHERE engine = new.engine
    ON CONFLICT DO UPDATE SET served = excluded.served, used = iif(day = excluded.day, used, 0) + excluded.used,
        spent = iif(day = excluded.day, spent, 0), day = excluded.day;
END;

-- The numbered log. `record` is an atelier.v1.StreamProgressResponse.
CREATE TABLE events (
    generation_id TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    sequence      INTEGER NOT NULL,
    record        BLOB NOT NULL,
    PRIMARY KEY (generation_id, sequence)
) WITHOUT ROWID;

-- Cost of each engine between two midnights UTC.
CREATE TABLE spending (
    engine TEXT NOT NULL,
    day    TEXT NOT NULL DEFAULT (date('now')),
    amount REAL NOT NULL,
    PRIMARY KEY (engine, day)
) WITHOUT ROWID;

-- Engines that begin nothing. `record` is an atelier.v1.EnginePause.
CREATE TABLE pauses (
    engine TEXT PRIMARY KEY,
    record BLOB NOT NULL
) WITHOUT ROWID;

-- Stored blobs. `record` is an atelier.v1.Artifact.
CREATE TABLE artifacts (
    id      TEXT PRIMARY KEY,
    caller  TEXT NOT NULL,
    expires REAL NOT NULL,
    record  BLOB NOT NULL,
    size    INTEGER NOT NULL DEFAULT 0 -- bytes
) WITHOUT ROWID;

CREATE INDEX artifact_expiry ON artifacts (expires);

-- Bytes of the artifacts of tenants that may store so many only; a row is made when it is asked for first.
CREATE TABLE stored (
    tenant TEXT PRIMARY KEY,
    bytes  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER artifact_added AFTER INSERT ON artifacts BEGIN
    UPDATE stored SET bytes = bytes + new.size WHERE tenant = new.caller;
END;

CREATE TRIGGER artifact_deleted AFTER DELETE ON artifacts BEGIN
    UPDATE stored SET bytes = bytes - old.size WHERE tenant = old.caller;
END;

-- The artifacts that a generation needs: they are kept as long as it is.
CREATE TABLE inputs (
    generation_id TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    artifact_id   TEXT NOT NULL,
    PRIMARY KEY (artifact_id, generation_id)
) WITHOUT ROWID;

CREATE INDEX inputs_of ON inputs (generation_id);

-- How many transactions and generations there have been, see CommitCount in database.py; one row.
CREATE TABLE commits (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    file         BLOB NOT NULL DEFAULT (randomblob(16)),
    transactions INTEGER NOT NULL DEFAULT 0,
    generations  INTEGER NOT NULL DEFAULT 0
);

CREATE TRIGGER generation_accepted AFTER INSERT ON generations BEGIN
    UPDATE commits SET generations = generations + 1 WHERE id = 1;
END;

INSERT INTO commits (id) VALUES (1);
