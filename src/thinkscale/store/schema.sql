-- Runs, the traces they are made of, and every completion ever paid for. `PRAGMA user_version` is the schema version.
CREATE TABLE IF NOT EXISTS runs (
    id      TEXT PRIMARY KEY,          -- a name for question, method, model, seed and budget together
    started REAL NOT NULL,             -- seconds since 1970
    status  TEXT NOT NULL,             -- running | done | interrupted
    method  TEXT NOT NULL,             -- spec string
    model   TEXT NOT NULL,
    seed    TEXT NOT NULL,             -- an integer of any size
    budget  TEXT NOT NULL,
    problem TEXT NOT NULL,             -- JSON
    outcome TEXT                       -- JSON as `thinkscale ask --json` prints it
);
CREATE TABLE IF NOT EXISTS traces (
    id          INTEGER PRIMARY KEY,
    run         TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    role        TEXT NOT NULL,
    path        TEXT NOT NULL,         -- 3/0/1
    prompt      TEXT NOT NULL,         -- JSON messages
    finish      TEXT NOT NULL,
    stop_string TEXT,
    answer      TEXT,
    answer_key  TEXT,
    error       TEXT,
    pool        INTEGER,               -- place in the outcome's pool; NULL for steps on the way
    UNIQUE (run, role, prompt, path)
);
CREATE TABLE IF NOT EXISTS segments (
    trace    INTEGER NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    origin   TEXT NOT NULL,
    text     TEXT NOT NULL,
    tokens   INTEGER NOT NULL,
    model    TEXT NOT NULL,
    detail   TEXT,                     -- JSON: token ids, log-probabilities, tool calls
    PRIMARY KEY (trace, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    trace    INTEGER NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    value    REAL,                     -- NULL stands for minus infinity
    detail   TEXT NOT NULL,            -- JSON
    PRIMARY KEY (trace, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pools (
    name     TEXT NOT NULL,            -- of the pool: all recorded attempts of one source at one task
    position INTEGER NOT NULL,
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    gold     TEXT NOT NULL,            -- JSON list of reference answers; no method reads this table
    credits  TEXT NOT NULL,            -- JSON object: what each answer's key is worth, from 0 to 1
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS completions (
    key  TEXT PRIMARY KEY,             -- request name + seed
    body TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    id      TEXT PRIMARY KEY,          -- the part of the key that may be shown
    name    TEXT NOT NULL,             -- whose it is
    hash    BLOB NOT NULL,             -- SHA-256 of the whole key; the key itself is kept nowhere
    limits  TEXT NOT NULL,             -- JSON
    created REAL NOT NULL,             -- seconds since 1970
    revoked REAL                       -- seconds since 1970; NULL while it is good
);
CREATE TABLE IF NOT EXISTS spending (
    key      TEXT NOT NULL REFERENCES keys (id),
    span     INTEGER NOT NULL,         -- length of the bucket in seconds: a minute or a day
    start    INTEGER NOT NULL,         -- beginning of the bucket, seconds since 1970, a multiple of `span`
    requests INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,         -- generated
    nanousd  INTEGER NOT NULL,         -- billionths of a dollar, because sums of integers are exact
    PRIMARY KEY (key, span, start)
) WITHOUT ROWID;
