-- The newest version of the schema, for new databases; migrations.py brings older ones to it.
-- What the columns mean stands in sqlite/schema.sql; here only what is different.
-- REAL has 4 bytes here and INTEGER 32 bits, so numbers are DOUBLE PRECISION and BIGINT. Text is compared by its bytes.
CREATE TABLE schema_version (
    version BIGINT NOT NULL
);

-- The server processes. Work that one of them runs is taken over when its lease has ended; the clock is the database's.
CREATE TABLE processes (
    id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease TIMESTAMPTZ NOT NULL
);

-- How many transactions each writer of a process has begun, of those that were committed, see writer.py.
CREATE TABLE writers (
    process      BIGINT NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    transactions BIGINT NOT NULL,
    PRIMARY KEY (process, name)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What the processes have told about the engines that they run: one row for each. It holds as long as the lease of its
-- process, and is kept for a day, so that an engine whose last worker has gone is still known.
CREATE TABLE registrations (
    engine TEXT COLLATE "C" NOT NULL,
    worker BIGINT NOT NULL, -- the process
    place  BIGINT NOT NULL, -- in its configuration
    digest BYTEA NOT NULL,  -- of `offer`, which is seldom read
    offer  BYTEA NOT NULL,
    load   BYTEA NOT NULL,
    seen   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (engine, worker)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE generations (
    id               TEXT COLLATE "C" PRIMARY KEY,
    -- In which order they wait. Were that the id, the planner would walk the primary key past all that has ended,
    -- whenever its statistics say that most generations wait.
    place            BIGINT GENERATED ALWAYS AS IDENTITY,
    caller           TEXT COLLATE "C" NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    digest           BYTEA NOT NULL,
    engine           TEXT COLLATE "C" NOT NULL,
    state            BIGINT NOT NULL,
    attempt          BIGINT NOT NULL DEFAULT 0,
    fence            BIGINT NOT NULL DEFAULT 0,
    sequence         BIGINT NOT NULL DEFAULT 0,
    cancel_requested BIGINT NOT NULL DEFAULT 0,
    remote_handle    TEXT NOT NULL DEFAULT '',
    deadline         DOUBLE PRECISION,
    expires          DOUBLE PRECISION,
    request          BYTEA NOT NULL,
    record           BYTEA NOT NULL,
    task             BYTEA NOT NULL DEFAULT '',
    tenant           TEXT NOT NULL DEFAULT '',
    trace_context    TEXT NOT NULL DEFAULT '{}',
    subject          TEXT NOT NULL DEFAULT '',
    cost             DOUBLE PRECISION NOT NULL DEFAULT 1,
    weight           DOUBLE PRECISION NOT NULL DEFAULT 1,
    batch            BIGINT NOT NULL DEFAULT 0,
    owner            BIGINT, -- the process that claimed it last
    -- The process that accepted it, as long as a call waits there; see attendances.py.
    submitter        BIGINT DEFAULT nullif(current_setting('atelier.process', true), '')::BIGINT,
    UNIQUE (caller, request_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX owned ON generations (caller, id);
CREATE INDEX listed ON generations (caller, engine, state, id);
CREATE INDEX attempted ON generations (place) WHERE state = 1 AND attempt > 0;
CREATE INDEX begun ON generations (engine, place) WHERE state = 1 AND remote_handle <> '';
CREATE INDEX queue ON generations (engine, place) WHERE state = 1;
CREATE INDEX queue_of_tenant ON generations (engine, caller, batch, place) WHERE state = 1;
CREATE INDEX due ON generations (deadline) WHERE state = 1 AND deadline IS NOT NULL;
CREATE INDEX running ON generations (owner) WHERE state = 2;
CREATE INDEX expiry ON generations (expires) WHERE expires IS NOT NULL;

-- Other processes with calls that want a generation. `started` when its loss may cancel the generation.
CREATE TABLE attendances (
    generation TEXT COLLATE "C" NOT NULL,
    process    BIGINT NOT NULL,
    started    BOOLEAN NOT NULL,
    PRIMARY KEY (generation, process)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE queues (
    engine       TEXT COLLATE "C" PRIMARY KEY,
    waiting      BIGINT NOT NULL,
    virtual_time DOUBLE PRECISION NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE shares (
    tenant  TEXT COLLATE "C" NOT NULL,
    engine  TEXT COLLATE "C" NOT NULL,
    waiting BIGINT NOT NULL DEFAULT 0,
    cost    DOUBLE PRECISION NOT NULL DEFAULT 0,
    load    DOUBLE PRECISION NOT NULL DEFAULT 0,
    served  DOUBLE PRECISION NOT NULL DEFAULT 0,
    day     DATE NOT NULL DEFAULT '-infinity',
    used    DOUBLE PRECISION NOT NULL DEFAULT 0,
    spent   DOUBLE PRECISION NOT NULL DEFAULT 0,
    overtaken DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, engine)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX next_share ON shares (engine, served, tenant) WHERE waiting > 0;

CREATE FUNCTION enter_queue() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queues AS q (engine, waiting) VALUES (new.engine, 1)
        ON CONFLICT (engine) DO UPDATE SET waiting = q.waiting + 1;
    INSERT INTO shares AS s (tenant, engine, waiting, cost, load, served)
        SELECT new.caller, new.engine, 1, new.cost, new.cost / new.weight, virtual_time
        FROM queues WHERE engine = new.engine
        ON CONFLICT (tenant, engine) DO UPDATE SET waiting = s.waiting + 1, cost = s.cost + excluded.cost,
            load = s.load + excluded.load,
            served = CASE WHEN s.waiting > 0 THEN s.served ELSE greatest(s.served, excluded.served) END;
    IF TG_OP = 'UPDATE' AND old.state = 2 AND old.engine = new.engine THEN
        UPDATE shares SET served = served - new.cost / new.weight,
            used = CASE WHEN day = current_date THEN greatest(0, used - new.cost) ELSE used END
        WHERE tenant = new.caller AND engine = new.engine;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION leave_queue() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    claimed CONSTANT BOOLEAN := new.state = 2;
BEGIN
    UPDATE queues SET waiting = waiting - 1, virtual_time = CASE WHEN claimed THEN greatest(virtual_time,
        (SELECT served FROM shares WHERE tenant = old.caller AND engine = old.engine)) ELSE virtual_time END
    WHERE engine = old.engine;
    UPDATE shares SET waiting = waiting - 1,
        cost = CASE WHEN waiting > 1 THEN cost - old.cost ELSE 0 END,
        load = CASE WHEN waiting > 1 THEN load - old.cost / old.weight ELSE 0 END,
        served = served + CASE WHEN claimed THEN old.cost / old.weight ELSE 0 END,
        used = CASE WHEN day = current_date THEN used ELSE 0 END + CASE WHEN claimed THEN old.cost ELSE 0 END,
        spent = CASE WHEN day = current_date THEN spent ELSE 0 END, day = current_date,
        overtaken = CASE WHEN NOT claimed THEN overtaken WHEN old.batch = 0 AND EXISTS (
            SELECT 1 FROM generations WHERE state = 1 AND engine = old.engine AND caller = old.caller AND batch = 1)
            THEN overtaken + old.cost ELSE 0 END
    WHERE tenant = old.caller AND engine = old.engine;
    RETURN NULL;
END $$;

CREATE FUNCTION leave_queue_deleted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE queues SET waiting = waiting - 1 WHERE engine = old.engine;
    UPDATE shares SET waiting = waiting - 1, cost = CASE WHEN waiting > 1 THEN cost - old.cost ELSE 0 END,
        load = CASE WHEN waiting > 1 THEN load - old.cost / old.weight ELSE 0 END
    WHERE tenant = old.caller AND engine = old.engine;
    RETURN NULL;
END $$;

CREATE FUNCTION count_claimed() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queues AS q (engine, waiting) VALUES (new.engine, 0)
        ON CONFLICT (engine) DO UPDATE SET virtual_time = greatest(q.virtual_time, coalesce(
            (SELECT served FROM shares WHERE tenant = new.caller AND engine = new.engine), 0));
    INSERT INTO shares AS s (tenant, engine, served, used, day)
        SELECT new.caller, new.engine, virtual_time + new.cost / new.weight, new.cost, current_date
        FROM queues WHERE engine = new.engine
        ON CONFLICT (tenant, engine) DO UPDATE SET served = excluded.served,
            used = CASE WHEN s.day = excluded.day THEN s.used ELSE 0 END + excluded.used,
            spent = CASE WHEN s.day = excluded.day THEN s.spent ELSE 0 END, day = excluded.day;
    RETURN NULL;
END $$;

-- The connection says which process it belongs to.
CREATE FUNCTION set_owner() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    new.owner := nullif(current_setting('atelier.process', true), '')::BIGINT;
    RETURN new;
END $$;

CREATE TRIGGER queue_left AFTER UPDATE OF state, engine ON generations FOR EACH ROW
    WHEN (old.state = 1 AND (new.state <> 1 OR old.engine <> new.engine)) EXECUTE FUNCTION leave_queue();
CREATE TRIGGER queue_entered AFTER UPDATE OF state, engine ON generations FOR EACH ROW
    WHEN (new.state = 1 AND (old.state <> 1 OR old.engine <> new.engine)) EXECUTE FUNCTION enter_queue();
CREATE TRIGGER queue_entered_new AFTER INSERT ON generations FOR EACH ROW
    WHEN (new.state = 1) EXECUTE FUNCTION enter_queue();
CREATE TRIGGER queue_left_deleted AFTER DELETE ON generations FOR EACH ROW
    WHEN (old.state = 1) EXECUTE FUNCTION leave_queue_deleted();
CREATE TRIGGER claimed_new AFTER INSERT ON generations FOR EACH ROW
    WHEN (new.state = 2) EXECUTE FUNCTION count_claimed();
CREATE TRIGGER owned_new BEFORE INSERT ON generations FOR EACH ROW
    WHEN (new.state = 2) EXECUTE FUNCTION set_owner();
CREATE TRIGGER owned_from_now BEFORE UPDATE OF state ON generations FOR EACH ROW
    WHEN (new.state = 2 AND old.state <> 2) EXECUTE FUNCTION set_owner();

CREATE TABLE events (
    generation_id TEXT COLLATE "C" NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    sequence      BIGINT NOT NULL,
    record        BYTEA NOT NULL,
    PRIMARY KEY (generation_id, sequence)
);

CREATE TABLE spending (
    engine TEXT COLLATE "C" NOT NULL,
    day    DATE NOT NULL DEFAULT current_date,
    amount DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (engine, day)
);

CREATE TABLE pauses (
    engine TEXT COLLATE "C" PRIMARY KEY,
    record BYTEA NOT NULL
);

CREATE TABLE artifacts (
    id      TEXT COLLATE "C" PRIMARY KEY,
    caller  TEXT COLLATE "C" NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    record  BYTEA NOT NULL,
    size    BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX artifact_expiry ON artifacts (expires);
CREATE INDEX artifacts_of ON artifacts (caller);

CREATE TABLE stored (
    tenant TEXT COLLATE "C" PRIMARY KEY,
    bytes  BIGINT NOT NULL
);

-- Counted anew once nobody is adding: the statement that makes the row cannot see what is not committed yet.
CREATE FUNCTION count_stored() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE artifacts IN SHARE ROW EXCLUSIVE MODE;
    new.bytes := (SELECT coalesce(sum(size), 0) FROM artifacts WHERE caller = new.tenant);
    RETURN new;
END $$;

CREATE FUNCTION add_stored() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stored SET bytes = bytes + new.size WHERE tenant = new.caller;
    RETURN NULL;
END $$;

CREATE FUNCTION subtract_stored() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stored SET bytes = bytes - old.size WHERE tenant = old.caller;
    RETURN NULL;
END $$;

CREATE TRIGGER stored_first BEFORE INSERT ON stored FOR EACH ROW EXECUTE FUNCTION count_stored();
CREATE TRIGGER artifact_added AFTER INSERT ON artifacts FOR EACH ROW EXECUTE FUNCTION add_stored();
CREATE TRIGGER artifact_deleted AFTER DELETE ON artifacts FOR EACH ROW EXECUTE FUNCTION subtract_stored();

CREATE TABLE inputs (
    generation_id TEXT COLLATE "C" NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    artifact_id   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (artifact_id, generation_id)
);

CREATE INDEX inputs_of ON inputs (generation_id);

INSERT INTO schema_version VALUES (5);
